// Conversions between the float formats of checkpoints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"
#include "tensor/float16.h"
#include "tensor/float8.h"

namespace mochi {

// E5M2 is the upper half of an F16.
inline float f8_e5m2_to_f32(std::uint8_t byte) {
  return f16_to_f32(static_cast<std::uint16_t>(byte << 8));
}

// Whole arrays, in parallel. `from` is a float dtype or I8 (else Error); `source` needs no
// alignment and holds exactly target.size() elements.
void convert_to_f32(DType from, std::span<const std::byte> source, std::span<float> target);
void convert_to_bf16(DType from, std::span<const std::byte> source, std::span<BFloat16> target);
void convert_to_f16(std::span<const float> source, std::span<std::uint16_t> target);

// Returns true if no element is NaN or infinite. Runs in parallel; integers are always finite.
// `bytes` needs no alignment.
bool all_finite(DType dtype, std::span<const std::byte> bytes);

}  // namespace mochi
