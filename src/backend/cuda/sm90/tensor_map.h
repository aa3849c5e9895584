// Descriptions of tensors for Hopper's copy engine.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <span>

namespace mochi::cuda {

// Creates the map of a BF16 tensor of 2 to 5 dimensions, fastest first; the fastest one is
// contiguous. stride_bytes belongs to the others (one fewer than sizes) and holds multiples of 16.
// `box`, each entry at most 256, is the extent of one copy. With `swizzled` the box has 64 elements
// (128 bytes) in the first dimension and is stored in shared memory in the 128-byte swizzle that
// wgmma reads. Throws Error if CUDA refuses.
CUtensorMap make_tensor_map(const void* g_data, std::span<const std::int64_t> sizes,
                            std::span<const std::int64_t> stride_bytes, std::span<const int> box,
                            bool swizzled = true);

}  // namespace mochi::cuda
