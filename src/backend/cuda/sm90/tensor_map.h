// What the copy engine of Hopper must know of a tensor.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <span>

namespace mochi::cuda {

// Map of a BF16 tensor of 2 to 5 dimensions, fastest first; that one is contiguous. stride_bytes is
// of the others (one fewer than sizes), multiples of 16; `box` (each at most 256) is what one copy
// moves. With `swizzled` the box is of 64 elements (128 bytes) in the first dimension and lies in
// shared memory in the 128-byte swizzle that wgmma reads. Throws Error if CUDA refuses.
CUtensorMap make_tensor_map(const void* g_data, std::span<const std::int64_t> sizes,
                            std::span<const std::int64_t> stride_bytes, std::span<const int> box,
                            bool swizzled = true);

}  // namespace mochi::cuda
