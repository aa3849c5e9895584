// Matmuls by cuBLASLt. The library is loaded when a CUDA backend is created, so that the program
// also runs on machines that have neither a GPU nor this library.
#pragma once

#include <cuda_runtime.h>

#include <memory>

#include "tensor/tensor.h"

namespace mochi::cuda {

class CublasLt {
 public:
  // Allocates 32 MB of workspace. If the library is not found, throws an Error that names the
  // places searched.
  explicit CublasLt(Allocator& allocator);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // out [rows, n] = x [rows, k] · weight [n, k]ᵀ, or += with `accumulate`. All tensors are BF16 or
  // all are F32, or x and weight are BF16 and out is F32; no size is 0. Sums are fp32, in the same
  // order in every run on one GPU model. Returns false without computing anything if rows are not
  // aligned to 16 bytes or cuBLASLt has no algorithm for these sizes.
  bool multiply(const TensorView& x, const TensorView& weight, const TensorView& out,
                bool accumulate, cudaStream_t stream);

 private:
  struct Library;
  struct Plan;
  class Plans;
  std::unique_ptr<Library> library_;
  std::unique_ptr<Plans> plans_;
  Tensor workspace_;
};

}  // namespace mochi::cuda
