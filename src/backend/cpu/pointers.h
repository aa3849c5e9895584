// Pointers to the values of a tensor on the host, and how many values justify another thread.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace mochi::cpu {

constexpr std::int64_t kElementGrain = 1 << 14;

inline float* data(const TensorView& tensor) { return tensor.f32().data(); }
inline std::int32_t* ints(const TensorView& tensor) {
  return reinterpret_cast<std::int32_t*>(tensor.bytes());
}

}  // namespace mochi::cpu
