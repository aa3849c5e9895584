// Matrices from registers to shared memory, transposed on the way (compute capability 9.0).
#pragma once

#include <cstdint>

#include "backend/cuda/device/shared_memory.cuh"

namespace mochi::cuda::device {

// Four 8×8 matrices of 16-bit elements: thread i has columns 2·(i % 4) and the next of row i / 4 of
// each in r[j]; it gives the address of column i % 8 of matrix i / 8 (16 bytes, aligned).
__device__ inline void store_matrices_transposed(void* s_column, const std::uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                   shared_address(s_column)),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

}  // namespace mochi::cuda::device
