// Precisions of weights that `mochi convert` writes, as file formats number and name them.
#pragma once

#include <cstdint>
#include <optional>

#include "mochi/convert.h"
#include "tensor/block_format.h"

namespace mochi {

// Returns the format of the blocks, or nothing for a precision without blocks.
std::optional<BlockFormat> block_format_of(WeightFormat format);

// Returns the value of GGUF's general.file_type, as llama.cpp numbers them.
std::uint32_t gguf_file_type(WeightFormat format);

}  // namespace mochi
