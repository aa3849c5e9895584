#include "io/weights_stream.h"

#include <algorithm>
#include <array>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/atomic_file.h"
#include "base/checked_math.h"
#include "base/error.h"
#include "io/gguf.h"
#include "io/safetensors.h"

namespace mochi {
namespace {

constexpr std::uint32_t kGgufVersion = 3;
constexpr std::uint32_t kGgufU32 = 4;
constexpr std::uint32_t kGgufString = 8;

// 0 for a type that the file cannot have.
std::size_t element_bytes(const PlannedTensor& tensor) {
  const auto dtype = parse_dtype(tensor.type);
  return dtype ? dtype_bytes(*dtype) : 0;
}

void check_types(const std::vector<PlannedTensor>& tensors) {
  for (const PlannedTensor& tensor : tensors) {
    if (element_bytes(tensor) == 0) {
      fail("cannot write tensor '{}' as {}", tensor.name, tensor.type);
    }
  }
}

void write_tensor(const PlannedTensor& tensor, const ProduceTensorFn& produce, AtomicFile& file) {
  std::uint64_t num_written = 0;
  produce(tensor, [&](std::span<const std::byte> bytes) {
    num_written += bytes.size();
    if (num_written <= tensor.num_bytes) file.write(bytes);
  });
  if (num_written != tensor.num_bytes) {
    fail("tensor '{}': {} bytes were planned, and there are {}", tensor.name, tensor.num_bytes,
         num_written);
  }
}

template <typename T>
void append_number(T value, std::string& bytes) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void append_gguf_string(std::string_view text, std::string& bytes) {
  append_number<std::uint64_t>(text.size(), bytes);
  bytes += text;
}

std::uint64_t aligned(std::uint64_t offset) {
  return (offset + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment;
}

void append_metadata(const GgufMetadata& metadata, std::string& header) {
  for (const auto& [key, value] : metadata.strings) {
    append_gguf_string(key, header);
    append_number(kGgufString, header);
    append_gguf_string(value, header);
  }
  for (const auto& [key, value] : metadata.numbers) {
    append_gguf_string(key, header);
    append_number(kGgufU32, header);
    append_number(value, header);
  }
}

std::string make_gguf_header(const std::vector<PlannedTensor>& tensors,
                             const GgufMetadata& metadata) {
  std::string header(kGgufMagic);
  append_number(kGgufVersion, header);
  append_number<std::uint64_t>(tensors.size(), header);
  append_number<std::uint64_t>(metadata.strings.size() + metadata.numbers.size(), header);
  append_metadata(metadata, header);
  std::uint64_t offset = 0;
  for (const PlannedTensor& tensor : tensors) {
    const GgmlType* type = find_ggml_type(tensor.type);
    if (type == nullptr) fail("cannot write tensor '{}' as {}", tensor.name, tensor.type);
    append_gguf_string(tensor.name, header);
    append_number(static_cast<std::uint32_t>(tensor.sizes.size()), header);
    for (auto size = tensor.sizes.rbegin(); size != tensor.sizes.rend(); ++size) {
      append_number(*size, header);
    }
    append_number(type->id, header);
    append_number(offset, header);
    offset = aligned(checked_add(offset, tensor.num_bytes, "file"));
  }
  header.resize(aligned(header.size()), '\0');
  return header;
}

std::string make_safetensors_header(const std::vector<PlannedTensor>& tensors,
                                    const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const PlannedTensor& tensor : tensors) {
    const std::uint64_t end = checked_add(offset, tensor.num_bytes, "file");
    header[tensor.name] = {
        {"dtype", tensor.type}, {"shape", tensor.sizes}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  constexpr std::size_t kAlignment = 8;
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  std::string length;
  append_number<std::uint64_t>(text.size(), length);
  return length + text;
}

}  // namespace

void stream_safetensors(const std::filesystem::path& path, std::vector<PlannedTensor> tensors,
                        const std::map<std::string, std::string>& metadata,
                        const ProduceTensorFn& produce) {
  check_types(tensors);
  // With a padded header every tensor is then aligned.
  std::ranges::stable_sort(tensors, std::greater<>{}, element_bytes);
  AtomicFile file(path, SpecialFile::kRefuse);
  file.write(make_safetensors_header(tensors, metadata));
  for (const PlannedTensor& tensor : tensors) write_tensor(tensor, produce, file);
  file.commit();
}

void stream_gguf(const std::filesystem::path& path, const std::vector<PlannedTensor>& tensors,
                 const GgufMetadata& metadata, const ProduceTensorFn& produce) {
  AtomicFile file(path, SpecialFile::kRefuse);
  file.write(make_gguf_header(tensors, metadata));
  constexpr std::array<std::byte, kGgufAlignment> kZeros{};
  for (const PlannedTensor& tensor : tensors) {
    write_tensor(tensor, produce, file);
    file.write(std::span(kZeros).first(aligned(tensor.num_bytes) - tensor.num_bytes));
  }
  file.commit();
}

}  // namespace mochi
