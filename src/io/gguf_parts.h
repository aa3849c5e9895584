// GGUF files that llama.cpp's program llama-gguf-split has cut into parts.
#pragma once

#include <filesystem>
#include <memory>

#include "io/stored_source.h"

namespace mochi {

// Opens a GGUF file. If it is a part of a split one ("name-00002-of-00003.gguf"), opens all parts,
// which must be in its folder, as one source. Throws Error naming the part that is missing or
// belongs to another file.
std::shared_ptr<StoredSource> open_gguf(const std::filesystem::path& path);

}  // namespace mochi
