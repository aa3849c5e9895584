#include "io/gguf_source.h"

#include <fmt/format.h>

#include <array>
#include <fstream>
#include <utility>

#include "base/error.h"
#include "io/block_rows.h"
#include "io/safetensors.h"
#include "tensor/block_format.h"

namespace mochi {
namespace {

// Returns the type that a tensor is given in; nothing for types that the engine does not read.
std::optional<DType> readable_dtype(const std::string& type_name) {
  if (parse_block_format(type_name)) return DType::kF32;
  return parse_dtype(type_name);  // F32, F16, BF16 and I32 have the same names in both formats
}

}  // namespace

GgufSource::GgufSource(std::unique_ptr<const GgufFile> file) : file_(std::move(file)) {
  for (const auto& [name, entry] : file_->entries()) is_read_[name] = false;
}

std::string GgufSource::description() const { return fmt::format("'{}'", file_->path().string()); }

std::vector<std::string> GgufSource::names() const {
  std::vector<std::string> names;
  names.reserve(file_->entries().size());
  for (const auto& [name, entry] : file_->entries()) names.push_back(name);
  return names;
}

const StoredEntry& GgufSource::entry(std::string_view name) const {
  const auto found = file_->entries().find(name);
  if (found == file_->entries().end()) fail_missing(name);
  return found->second;
}

const std::filesystem::path& GgufSource::file_of(std::string_view name) const {
  entry(name);
  return file_->path();
}

TensorInfo GgufSource::info(std::string_view name) const {
  const StoredEntry& stored = entry(name);
  const std::optional<DType> dtype = readable_dtype(stored.dtype_name);
  if (!dtype) {
    fail("tensor '{}' in '{}': the type {} is not read", name, file_->path().string(),
         stored.dtype_name);
  }
  return {*dtype, Shape(stored.sizes), file_->path().string()};
}

std::vector<StoredRows> GgufSource::stored_rows(std::string_view name) const {
  const TensorInfo found = info(name);
  const StoredEntry& stored = entry(name);
  is_read_.find(name)->second = true;
  if (const auto format = parse_block_format(stored.dtype_name)) {
    return {dequantized_rows(*format, stored.bytes, found.shape)};
  }
  return {{found.dtype, found.shape, stored.bytes}};
}

std::vector<std::string> GgufSource::unread() const {
  std::vector<std::string> names;
  for (const auto& [name, is_read] : is_read_) {
    if (!is_read) names.push_back(name);
  }
  return names;
}

bool is_gguf(const std::filesystem::path& path) {
  if (path.string().ends_with(kGgufEnding)) return true;
  std::array<char, kGgufMagic.size()> beginning{};
  std::ifstream(path, std::ios::binary).read(beginning.data(), beginning.size());
  return std::string_view(beginning.data(), beginning.size()) == kGgufMagic;
}

}  // namespace mochi
