// Conversions of F8_E4M3 in OCP's variant ("E4M3FN"): 1 sign bit, 4 exponent bits (bias 7), 3
// mantissa bits; no infinities; NaN is S.1111.111; the largest value is 448.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace mochi {

inline constexpr float kMaxF8E4M3 = 448.0F;

// Selects are branch-free on purpose, so that the compiler vectorises loops over these functions.

inline float f8_e4m3_to_f32(std::uint8_t byte) {
  const std::uint32_t magnitude = byte & 0x7fU;
  const std::uint32_t sign = (byte & 0x80U) << 24;
  const std::uint32_t normal = (magnitude << 20) + (120U << 23);  // exponent bias: 7 → 127
  const auto subnormal = std::bit_cast<std::uint32_t>(
      static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-9F);
  std::uint32_t bits = magnitude < 0x08U ? subnormal : normal;
  bits = magnitude == 0x7fU ? 0x7fc00000U : bits;
  return std::bit_cast<float>(bits | sign);
}

// Rounds to nearest, ties to even. Larger values, including infinities, become the largest value.
// NaN stays NaN and keeps its sign.
inline std::uint8_t f32_to_f8_e4m3(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const std::uint32_t sign = (bits >> 24) & 0x80U;
  const std::uint32_t rounded = (magnitude + 0x7ffffU + ((magnitude >> 20) & 1U)) >> 20;
  const std::uint32_t normal = std::min(rounded, (120U << 3) + 0x7eU) - (120U << 3);
  // A unit in the last place of this sum equals the step between subnormal values.
  constexpr float kSubnormalShift = 0x1p14F;
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + kSubnormalShift) -
      std::bit_cast<std::uint32_t>(kSubnormalShift);
  std::uint32_t code = magnitude < 0x3c800000U ? subnormal : normal;  // below 2^-6
  code = magnitude > 0x7f800000U ? 0x7fU : code;
  return static_cast<std::uint8_t>(code | sign);
}

}  // namespace mochi
