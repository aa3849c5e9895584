// GGUF files as byte strings, right or wrong, for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace mochi {

template <typename T>
std::string bytes_of(T value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

inline std::string gguf_string(std::string_view text) {
  return bytes_of<std::uint64_t>(text.size()) + std::string(text);
}

inline std::string gguf_value(std::string_view key, std::uint32_t type, std::string_view value) {
  return gguf_string(key) + bytes_of(type) + std::string(value);
}

// `sizes` in the order of the file: the one that varies fastest first.
inline std::string gguf_tensor(std::string_view name, const std::vector<std::uint64_t>& sizes,
                               std::uint32_t type, std::uint64_t offset) {
  std::string bytes = gguf_string(name) + bytes_of(static_cast<std::uint32_t>(sizes.size()));
  for (const std::uint64_t size : sizes) bytes += bytes_of(size);
  return bytes + bytes_of(type) + bytes_of(offset);
}

struct GgufParts {
  std::vector<std::string> values = {};
  std::vector<std::string> tensors = {};
  std::size_t num_data_bytes = 0;
  std::uint32_t version = 3;
  std::size_t alignment = 32;
};

inline std::string make_gguf(const GgufParts& parts) {
  std::string bytes = "GGUF" + bytes_of(parts.version) +
                      bytes_of<std::uint64_t>(parts.tensors.size()) +
                      bytes_of<std::uint64_t>(parts.values.size());
  for (const std::string& value : parts.values) bytes += value;
  for (const std::string& tensor : parts.tensors) bytes += tensor;
  bytes.resize((bytes.size() + parts.alignment - 1) / parts.alignment * parts.alignment, '\0');
  return bytes + std::string(parts.num_data_bytes, '\1');
}

}  // namespace mochi
