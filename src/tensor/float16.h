// Conversions of F16 (IEEE binary16) and BF16, the upper half of an F32.
#pragma once

#include <bit>
#include <cstdint>

namespace mochi {

// Branch-free selects on purpose: the compiler turns loops over these into vector code.

inline float f16_to_f32(std::uint16_t half) {
  const std::uint32_t magnitude = half & 0x7fffU;
  const std::uint32_t sign = (half & 0x8000U) << 16;
  constexpr std::uint32_t kRebias = 112U << 23;  // exponent bias 15 to 127
  const std::uint32_t normal = (magnitude << 13) + kRebias;
  const std::uint32_t special = normal + kRebias;  // infinity, NaN: exponent 31 to 255
  const auto subnormal = std::bit_cast<std::uint32_t>(
      static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24F);
  std::uint32_t bits = magnitude < 0x0400U ? subnormal : normal;
  bits = magnitude >= 0x7c00U ? special : bits;
  return std::bit_cast<float>(bits | sign);
}

inline float bf16_to_f32(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// Rounds to nearest, ties to even. NaN stays NaN, with its sign.
inline std::uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const std::uint32_t quiet_nan = (bits >> 16) | 0x0040U;
  const bool is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
  return static_cast<std::uint16_t>(is_nan ? quiet_nan : rounded);
}

// Rounds to nearest, ties to even; values beyond the largest (65504) become infinite. NaN stays
// NaN, with its sign.
inline std::uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  constexpr std::uint32_t kRebias = 112U << 10;  // exponent bias 127 to 15
  const std::uint32_t rounded = (magnitude + 0x0fffU + ((magnitude >> 13) & 1U)) >> 13;
  const std::uint32_t normal = rounded - kRebias;
  // A unit in the last place of this sum equals the step between subnormal values.
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) -
      std::bit_cast<std::uint32_t>(0.5F);
  std::uint32_t code = magnitude < 0x38800000U ? subnormal : normal;  // below 2^-14
  code = magnitude >= 0x477ff000U ? 0x7c00U : code;                   // from 65520
  code = magnitude > 0x7f800000U ? 0x7e00U : code;
  return static_cast<std::uint16_t>(code | sign);
}

}  // namespace mochi
