// Conversion from a tensor's dtype to a kernel's element type.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "backend/cuda/common/cuda_check.h"
#include "tensor/tensor.h"

namespace mochi::cuda {

// Calls fn.template operator()<T>() with T = float or __nv_bfloat16.
template <typename Fn>
void dispatch(DType dtype, Fn&& fn) {
  if (dtype == DType::kBF16) {
    fn.template operator()<__nv_bfloat16>();
  } else {
    fn.template operator()<float>();
  }
}

// Returns the elements of a view; T may be const.
template <typename T>
T* data_of(const TensorView& view) {
  return reinterpret_cast<T*>(view.bytes());
}

}  // namespace mochi::cuda
