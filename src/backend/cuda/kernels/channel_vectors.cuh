// Neighbouring elements of channels-last tensors, loaded and stored as one access and processed as
// floats.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "tensor/tensor.h"

namespace mochi::cuda {

// The widest vector of T that one access moves.
template <typename T>
constexpr int kMaxVector = 16 / static_cast<int>(sizeof(T));

// kWidth elements of T, at an address that is a multiple of their size.
template <typename T, int kWidth>
struct alignas(kWidth * sizeof(T)) ChannelVector {
  T elements[kWidth];

  __device__ float operator[](int i) const { return static_cast<float>(elements[i]); }
  __device__ void set(int i, float value) { elements[i] = static_cast<T>(value); }
};

template <typename T, int kWidth>
__device__ ChannelVector<T, kWidth> load_vector(const T* g_from) {
  return *reinterpret_cast<const ChannelVector<T, kWidth>*>(g_from);
}

template <typename T, int kWidth>
__device__ void store_vector(T* g_to, const ChannelVector<T, kWidth>& vector) {
  *reinterpret_cast<ChannelVector<T, kWidth>*>(g_to) = vector;
}

// Calls fn.template operator()<T, kWidth>() with the widest vector if `channels` is a multiple of
// it, else with single elements.
template <typename Fn>
void dispatch_vectors(DType dtype, std::int64_t channels, Fn&& fn) {
  const bool is_bf16 = dtype == DType::kBF16;
  if (is_bf16 && channels % kMaxVector<__nv_bfloat16> == 0) {
    fn.template operator()<__nv_bfloat16, kMaxVector<__nv_bfloat16>>();
  } else if (is_bf16) {
    fn.template operator()<__nv_bfloat16, 1>();
  } else if (channels % kMaxVector<float> == 0) {
    fn.template operator()<float, kMaxVector<float>>();
  } else {
    fn.template operator()<float, 1>();
  }
}

}  // namespace mochi::cuda
