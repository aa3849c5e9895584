// Floats to blocks of quantised weights, for quantize() alone.
#pragma once

#include <cstddef>

#include "tensor/block_format.h"

namespace mochi {

// Encodes `num_blocks` consecutive blocks.
using EncodeBlocksFn = void (*)(const float* values, std::size_t num_blocks, std::byte* blocks);

// Returns null for a format that is only read.
EncodeBlocksFn find_block_encoder(BlockFormat format);

}  // namespace mochi
