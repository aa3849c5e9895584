// Elementary functions as plain arithmetic, so that loops over them vectorise and give the same
// bits for every vector width.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace mochi::cpu {

// e^x, relative error below 3e-7 for finite results; x < -87.3 gives 0, x > 88 saturates.
// Range reduction by ln 2 in two parts, then the degree-6 Taylor polynomial on [-ln2/2, ln2/2].
inline float fast_exp(float x) {
  constexpr float kLog2e = 1.44269504F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kMin = -87.33654F;
  constexpr float kRound = 12582912.0F;  // 1.5·2^23: adding it rounds to an integer
  const float clamped = std::min(std::max(x, kMin), 88.0F);
  const float shifted = clamped * kLog2e + kRound;
  const float n = shifted - kRound;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float p = 1.0F / 720;
  p = p * r + 1.0F / 120;
  p = p * r + 1.0F / 24;
  p = p * r + 1.0F / 6;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  const auto exponent = std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kRound);
  const float power = std::bit_cast<float>((exponent + 127) << 23);
  return x < kMin ? 0.0F : p * power;
}

inline float sigmoid(float x) { return 1.0F / (1.0F + fast_exp(-x)); }

inline float silu(float x) { return x * sigmoid(x); }

inline float fast_tanh(float x) { return 1.0F - 2.0F / (1.0F + fast_exp(2.0F * x)); }

// The tanh form of GELU, as T5 v1.1 uses it.
inline float gelu_tanh(float x) {
  constexpr float kSqrt2OverPi = 0.797884561F;
  return 0.5F * x * (1.0F + fast_tanh(kSqrt2OverPi * (x + 0.044715F * x * x * x)));
}

}  // namespace mochi::cpu
