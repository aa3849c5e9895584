#include "io/gguf_source.h"

#include <fmt/format.h>

#include <array>
#include <fstream>
#include <utility>

#include "base/error.h"
#include "io/safetensors.h"

namespace mochi {
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
  const std::optional<StorageType> type = parse_storage_type(stored.dtype_name);
  if (!type) {
    fail("tensor '{}' in '{}': the type {} is not read", name, file_->path().string(),
         stored.dtype_name);
  }
  return {*type, Shape(stored.sizes), file_->path().string()};
}

std::vector<StoredRows> GgufSource::stored_rows(std::string_view name) const {
  const TensorInfo found = info(name);
  const StoredEntry& stored = entry(name);
  is_read_.find(name)->second = true;
  return {{found.type, found.shape, stored.bytes, nullptr, {}, stored.file}};
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
