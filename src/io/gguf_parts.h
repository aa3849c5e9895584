// GGUF files that llama.cpp's program llama-gguf-split has cut into parts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "io/gguf.h"
#include "io/stored_source.h"

namespace mochi {

// The place of a part in a split file.
struct GgufSplit {
  std::uint64_t number = 0;  // from 0
  std::uint64_t count = 0;
  std::uint64_t num_tensors = 0;  // those of all parts
};

// Returns what the metadata states; nothing for whole files. The count of merged files is 0.
std::optional<GgufSplit> read_gguf_split(const GgufFile& file);

// Opens a GGUF file. If it is a part of a split one ("name-00002-of-00003.gguf"), opens all parts,
// which must be in its folder, as one source. Throws Error naming the part that is missing or
// belongs to another file.
std::shared_ptr<StoredSource> open_gguf(const std::filesystem::path& path);

}  // namespace mochi
