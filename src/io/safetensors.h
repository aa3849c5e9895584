// The safetensors file format: u64 little-endian header length, JSON header, tensor bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/stop.h"
#include "io/stored_source.h"
#include "tensor/shape.h"
#include "tensor/storage_type.h"

namespace mochi {

// Our dtype of a safetensors name; nothing for valid ones that the engine does not compute with.
std::optional<DType> parse_dtype(std::string_view name);
// Our type of a name in a safetensors or a GGUF file; plain types have one name in both.
std::optional<StorageType> parse_storage_type(std::string_view name);

// A memory-mapped file, or one in memory, whose header has been checked in full: every tensor lies
// inside the file, has the size its shape says, and no bytes are shared or left over.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  // `bytes` must outlive the object; `name` is its path in messages.
  SafetensorsFile(std::span<const std::byte> bytes, std::filesystem::path name);
  SafetensorsFile(const SafetensorsFile&) = delete;  // its entries point to it
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::map<std::string, StoredEntry, std::less<>>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  void parse(std::span<const std::byte> bytes);

  MappedFile file_;  // none where the bytes are another's
  std::filesystem::path path_;
  std::map<std::string, StoredEntry, std::less<>> entries_;
  std::map<std::string, std::string> metadata_;
};

struct NamedTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;
};

// Writes all tensors into one file that appears only when it is complete. Waiting for the reader of
// a named pipe ends with Cancelled when should_stop says so.
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {},
                       StopFn should_stop = {});

}  // namespace mochi
