// Addresses and ordering of shared memory.
#pragma once

#include <cstdint>

namespace mochi::cuda::device {

// Returns an address in PTX's form: 32 bits, relative to the start of the block's shared memory.
__device__ inline std::uint32_t shared_address(const void* s_pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(s_pointer));
}

// Called by each thread that wrote shared memory with ordinary stores, before the barrier after
// which the copy engine or the tensor cores (wgmma) read it.
__device__ inline void fence_async_shared() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Stores four 8×8 matrices of 16-bit elements from registers to shared memory. Thread i holds
// columns 2·(i % 4) and 2·(i % 4) + 1 of row i / 4 of matrix j in r[j], and passes the address of
// row i % 8 of matrix i / 8 (16 bytes, aligned).
__device__ inline void store_matrices(void* s_row, const std::uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                   shared_address(s_row)),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

// Returns the byte offset of 16-byte chunk `chunk` (0…7) in row `row` of a tile of 128-byte rows,
// in the 128-byte swizzle of the copy engine and wgmma. The tile begins at a multiple of 1024
// bytes.
__device__ inline unsigned swizzled_128b(unsigned row, unsigned chunk) {
  return row * 128 + ((chunk ^ (row & 7)) << 4);
}

}  // namespace mochi::cuda::device
