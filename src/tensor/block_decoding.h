// Blocks of quantised weights to floats, for dequantize() alone.
#pragma once

#include <cstddef>

#include "tensor/block_format.h"

namespace mochi {

// Decodes `num_blocks` consecutive blocks.
using DecodeBlocksFn = void (*)(const std::byte* blocks, std::size_t num_blocks, float* values);

DecodeBlocksFn find_block_decoder(BlockFormat format);

}  // namespace mochi
