// Matrix products by cuBLASLt, which is loaded when a CUDA backend is made: the program also runs
// on machines that have neither a GPU nor this library.
#pragma once

#include <cuda_runtime.h>

#include <memory>

#include "tensor/tensor.h"

namespace mochi::cuda {

class CublasLt {
 public:
  // Takes 32 MB of workspace. Throws Error saying what was looked for when there is no library.
  explicit CublasLt(Allocator& allocator);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // out [rows, n] = x [rows, k] · weight [n, k]ᵀ, or += with `accumulate`; all BF16 or all F32, or
  // BF16 with an F32 out; no size 0. Sums are of fp32, in the same order in every run on one GPU
  // model. False, with nothing done: rows are not aligned to 16 bytes, or cuBLASLt has no algorithm
  // for these sizes.
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
