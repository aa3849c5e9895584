// F8_E4M3 values; tensor/float8.h has the host's functions.
#pragma once

#include <cuda_fp8.h>

#include <cstdint>

namespace mochi::cuda {

// Unpacks two neighbours, of which the one with the lower index is in the lower byte.
__device__ inline float2 unpack_f8(std::uint16_t codes) {
  return __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(codes, __NV_E4M3)));
}
__device__ inline std::uint16_t pack_f8(float low, float high) {
  return __nv_cvt_float2_to_fp8x2({low, high}, __NV_SATFINITE, __NV_E4M3);
}

// Unpacks one value by its bits. With the processor's own conversion, ptxas would spill where rows
// are in local memory.
__device__ inline float unpack_one_f8(std::uint32_t code) {
  const std::uint32_t magnitude = code & 0x7fU;
  // The exponent bias changes from 7 to 127; subnormal values are subnormal in both.
  const float value = __uint_as_float(magnitude << 20) * 0x1p120F;
  const float found = magnitude == 0x7fU ? __uint_as_float(0x7fc00000U) : value;
  return (code & 0x80U) != 0 ? -found : found;
}

}  // namespace mochi::cuda
