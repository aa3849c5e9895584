// Rows in I8 with a scale for each; tensor/row_quantisation.h has the host's functions, and the
// bits are the same.
#pragma once

#include <cstdint>

#include "backend/cuda/common/warp_row.cuh"

namespace mochi::cuda {

// How one row is quantised: codes = round(x · inverse), with NaN as the scale of a row that is not
// finite.
struct RowScale {
  float scale, inverse;

  // `largest` holds the bits of the row's largest magnitude.
  __device__ static RowScale of(std::uint32_t largest) {
    constexpr std::uint32_t kInfinity = 0x7f800000U;
    constexpr std::uint32_t kSmallestNormal = 0x00800000U;
    if (largest >= kInfinity) return {__uint_as_float(0x7fc00000U), 0.0F};
    float scale = __uint_as_float(largest) / 127.0F;
    if (__float_as_uint(scale) < kSmallestNormal) scale = 1.0F;
    return {scale, 1.0F / scale};
  }
  __device__ bool is_finite() const { return inverse != 0.0F; }
  __device__ std::uint32_t code_of(float value) const {
    return is_finite() ? static_cast<std::uint32_t>(__float2int_rn(value * inverse)) & 0xffU : 0U;
  }
};

__device__ inline std::uint32_t magnitude_bits(float value) {
  return __float_as_uint(value) & 0x7fffffffU;
}

// Writes a row's codes [width] and its scale. `row` holds the values as T.
template <typename T>
__device__ void quantise(const WarpRow<T>& row, int lane, int num_vectors, std::int8_t* g_codes,
                         float* g_scale) {
  constexpr int kSize = kVectorSize<T>;
  std::uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kMaxVectors; ++i) {
    float values[kSize];
    unpack(row.vectors[i], values);
    if (i * 32 + lane >= num_vectors) break;
#pragma unroll
    for (float value : values) largest = max(largest, magnitude_bits(value));
  }
  const RowScale scale = RowScale::of(__reduce_max_sync(0xffffffffU, largest));
  if (lane == 0) *g_scale = scale.scale;
#pragma unroll
  for (int i = 0; i < kMaxVectors; ++i) {
    if (i * 32 + lane >= num_vectors) break;
    float values[kSize];
    unpack(row.vectors[i], values);
    std::uint32_t words[kSize / 4] = {};
#pragma unroll
    for (int j = 0; j < kSize; ++j) words[j / 4] |= scale.code_of(values[j]) << (j % 4 * 8);
    auto* const g_words = reinterpret_cast<std::uint32_t*>(g_codes) + (i * 32 + lane) * (kSize / 4);
    if constexpr (kSize == 8) {
      *reinterpret_cast<uint2*>(g_words) = {words[0], words[1]};
    } else {
      *g_words = words[0];
    }
  }
}

}  // namespace mochi::cuda
