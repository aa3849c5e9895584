// Matrix products of one warp (compute capability 8.0 and newer).
#pragma once

#include <cstdint>

#include "backend/cuda/device/shared_memory.cuh"

namespace mochi::cuda::device {

// d [16, 8] f32 += a [16, 16] bf16 · b [16, 8] bf16. Thread i holds columns 2·(i % 4) and 2·(i % 4)
// + 1 of d, in rows i / 4 (d[0], d[1]) and i / 4 + 8 (d[2], d[3]).
__device__ inline void multiply_add(float (&d)[4], const std::uint32_t (&a)[4],
                                    const std::uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
      " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Loads four 8×8 matrices of 16-bit elements. Thread i passes the address of row i % 8 of matrix
// i / 8 (16 bytes, aligned) and gets columns 2·(i % 4) and 2·(i % 4) + 1 of row i / 4 of each
// matrix.
__device__ inline void load_matrices(std::uint32_t (&r)[4], const void* s_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(s_row))
               : "memory");
}

// Like load_matrices(), but transposes each matrix.
__device__ inline void load_matrices_transposed(std::uint32_t (&r)[4], const void* s_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(s_row))
               : "memory");
}

// Packs two f32 as bf16, the first in the low half.
__device__ inline std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// Returns 2^x within 2 units in the last place, and 0 for −∞.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace mochi::cuda::device
