// Conversions between the float formats of checkpoints.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"
#include "tensor/float8.h"

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

// E5M2 is the upper half of an F16.
inline float f8_e5m2_to_f32(std::uint8_t byte) {
  return f16_to_f32(static_cast<std::uint16_t>(byte << 8));
}

// Rounds to nearest, ties to even. NaN stays NaN, with its sign.
inline std::uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const std::uint32_t quiet_nan = (bits >> 16) | 0x0040U;
  const bool is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
  return static_cast<std::uint16_t>(is_nan ? quiet_nan : rounded);
}

// Whole arrays, in parallel. `from` is a float dtype (else Error); `source` needs no alignment and
// holds exactly target.size() elements.
void convert_to_f32(DType from, std::span<const std::byte> source, std::span<float> target);
void convert_to_bf16(DType from, std::span<const std::byte> source, std::span<BFloat16> target);

// Returns true if no element is NaN or infinite. Runs in parallel; integers are always finite.
// `bytes` needs no alignment.
bool all_finite(DType dtype, std::span<const std::byte> bytes);

}  // namespace mochi
