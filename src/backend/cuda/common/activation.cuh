// Activation functions.
#pragma once

#include <cuda_bf16.h>

#include <type_traits>

#include "backend/ops/dense.h"

namespace mochi::cuda {

// Returns x / (1 + e^−y). For bf16 results the fast forms of e^x and of division are exact enough.
template <typename T>
__device__ float divide_by_logistic(float x, float y) {
  if constexpr (std::is_same_v<T, float>) {
    return x / (1.0F + expf(-y));
  } else {
    return __fdividef(x, 1.0F + __expf(-y));
  }
}

// T is the type in which the result will be stored.
template <typename T, Activation kActivation>
__device__ float activate(float x) {
  if constexpr (kActivation == Activation::kSilu) {
    return divide_by_logistic<T>(x, x);
  } else if constexpr (kActivation == Activation::kGeluTanh) {
    // ½·(1 + tanh(z)) is the logistic function of 2·z.
    constexpr float kTwiceSqrt2OverPi = 1.595769122F;
    return divide_by_logistic<T>(x, kTwiceSqrt2OverPi * (x + 0.044715F * x * x * x));
  } else {
    return x;
  }
}

// Variant for an activation that is known only at run time.
template <typename T>
__device__ float activate(Activation activation, float x) {
  if (activation == Activation::kSilu) return activate<T, Activation::kSilu>(x);
  if (activation == Activation::kGeluTanh) return activate<T, Activation::kGeluTanh>(x);
  return x;
}

}  // namespace mochi::cuda
