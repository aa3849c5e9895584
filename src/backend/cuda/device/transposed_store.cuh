// Transposing stores of matrices from registers to shared memory (compute capability 9.0).
#pragma once

#include <cstdint>

#include "backend/cuda/device/shared_memory.cuh"

namespace mochi::cuda::device {

// Stores four 8×8 matrices of 16-bit elements. Thread i holds columns 2·(i % 4) and 2·(i % 4) + 1
// of row i / 4 of matrix j in r[j], and passes the address of column i % 8 of matrix i / 8 (16
// bytes, aligned).
__device__ inline void store_matrices_transposed(void* s_column, const std::uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                   shared_address(s_column)),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

}  // namespace mochi::cuda::device
