// RMS norm and rotation of a head that is distributed over several lanes, a vector of values each.
#pragma once

#include "backend/cuda/common/vector.cuh"

namespace mochi::cuda {

// Loads kCount floats as one vector of 8 or 16 bytes.
template <int kCount>
__device__ inline void load_floats(const float* g, float (&values)[kCount]) {
  if constexpr (kCount == 4) {
    unpack(load_vector_once(g, 0), values);
  } else {
    static_assert(kCount == 2);
    const float2 loaded = __ldcs(reinterpret_cast<const float2*>(g));
    values[0] = loaded.x;
    values[1] = loaded.y;
  }
}

// values = values / rms · weight; kLanes lanes hold the head.
template <int kLanes, int kSize>
__device__ inline void norm(float (&values)[kSize], const float (&weight)[kSize], float eps) {
  float sum = 0.0F;
#pragma unroll
  for (float value : values) sum += value * value;
  sum = sum_over_lanes<kLanes>(sum);
  const float factor = 1.0F / sqrtf(sum / static_cast<float>(kLanes * kSize) + eps);
#pragma unroll
  for (int i = 0; i < kSize; ++i) values[i] *= factor * weight[i];
}

// Rotates pairs (even, odd).
template <int kPairs>
__device__ inline void rotate(float (&values)[2 * kPairs], const float (&cosines)[kPairs],
                              const float (&sines)[kPairs]) {
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const float even = values[2 * i];
    const float odd = values[2 * i + 1];
    values[2 * i] = even * cosines[i] - odd * sines[i];
    values[2 * i + 1] = even * sines[i] + odd * cosines[i];
  }
}

}  // namespace mochi::cuda
