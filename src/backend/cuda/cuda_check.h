// Errors of the CUDA runtime as exceptions. Includes no formatting: nvcc reads this, too.
#pragma once

#include <cuda_runtime.h>

namespace mochi::cuda {

// Throws Error: what was being done and what CUDA says.
[[noreturn]] void fail_cuda(cudaError_t code, const char* what);

inline void check(cudaError_t code, const char* what) {
  if (code != cudaSuccess) fail_cuda(code, what);
}

// After a kernel launch: launches report through the last error.
inline void check_launch(const char* what) { check(cudaGetLastError(), what); }

}  // namespace mochi::cuda
