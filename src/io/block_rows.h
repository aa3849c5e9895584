// Tensors of quantised blocks, given as F32.
#pragma once

#include <cstddef>
#include <span>

#include "io/tensor_source.h"
#include "tensor/block_format.h"
#include "tensor/shape.h"

namespace mochi {

// Returns all values of a tensor of this shape, computed from its blocks.
StoredRows dequantized_rows(BlockFormat format, std::span<const std::byte> blocks,
                            const Shape& shape);

}  // namespace mochi
