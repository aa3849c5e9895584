// The GGUF file format, versions 2 and 3: header, metadata, descriptions of the tensors, then their
// aligned bytes. All numbers are little-endian.
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
#include "io/stored_source.h"

namespace mochi {

inline constexpr std::string_view kGgufMagic = "GGUF";
inline constexpr std::string_view kGgufEnding = ".gguf";
inline constexpr std::uint64_t kGgufAlignment = 32;

// A type of GGML's: one that is stored element by element is a block of one element.
struct GgmlType {
  std::uint32_t id;
  std::string_view name;
  std::uint64_t block_elements;
  std::uint64_t block_bytes;
};

// Returns null if there is no such type.
const GgmlType* find_ggml_type(std::uint32_t id);
const GgmlType* find_ggml_type(std::string_view name);

// A memory-mapped file, or one in memory, whose header has been checked in full: every tensor lies
// inside the file, has the size that its shape needs, and shares no bytes with another one.
class GgufFile {
 public:
  // `first_part` is that of a split file, if this is another part: its metadata has the shapes.
  explicit GgufFile(const std::filesystem::path& path, const GgufFile* first_part = nullptr);
  // `bytes` must outlive the object; `name` is its path in messages.
  GgufFile(std::span<const std::byte> bytes, std::filesystem::path name);
  GgufFile(const GgufFile&) = delete;  // its entries point to it
  GgufFile& operator=(const GgufFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  // Sizes are in the usual order, in which the last one varies fastest; a shape in the metadata
  // (comfy.gguf.orig_shape) replaces that of the tensor.
  const std::map<std::string, StoredEntry, std::less<>>& entries() const { return entries_; }
  // Strings, numbers and short arrays; longer arrays (of a tokenizer) are passed over.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  void parse(std::span<const std::byte> bytes, const GgufFile* first_part);

  MappedFile file_;  // none if the bytes are another's
  std::filesystem::path path_;
  std::map<std::string, StoredEntry, std::less<>> entries_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace mochi
