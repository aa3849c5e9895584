// Errors of the CUDA runtime as exceptions. Includes no formatting library, because nvcc reads this
// header, too.
#pragma once

#include <cuda_runtime.h>

namespace mochi::cuda {

// Throws an Error that says what was being done and what CUDA reports.
[[noreturn]] void fail_cuda(cudaError_t code, const char* what);

inline void check(cudaError_t code, const char* what) {
  if (code != cudaSuccess) fail_cuda(code, what);
}

// Checks a kernel launch; launches report errors through cudaGetLastError().
inline void check_launch(const char* what) { check(cudaGetLastError(), what); }

}  // namespace mochi::cuda
