#include "tensor/block_encoding.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "tensor/float16.h"

// The groups of a block with one scale each are the lanes of vectors: sums then add their terms in
// a fixed order, whatever the width of the machine's registers, and the compiler vectorises the
// loops over lanes. CMakeLists.txt turns off fused multiply-adds for the same reason.

namespace mochi {
namespace {

using Byte = std::uint8_t;

constexpr std::size_t kSmallBlock = 32;
constexpr std::size_t kLargeBlock = 256;

void write_f16(std::uint16_t bits, Byte* bytes) { std::memcpy(bytes, &bits, sizeof(bits)); }

// Returns the inverse of a scale, or 0 where all quotients by it are taken as 0.
float invert(float scale) {
  const float inverse = 1.0F / scale;
  return std::isfinite(inverse) ? inverse : 0.0F;
}

// Rounds |value| < 2^22 to the nearest integer, ties to even.
float round_even(float value) {
  constexpr float kShift = 0x1.8p23F;
  return (value + kShift) - kShift;
}

float clamp(float value, float low, float high) { return std::min(std::max(value, low), high); }

// Rounds to the nearest integer, ties away from zero, as GGML does in this format.
std::int8_t round_away(float value) {
  const float magnitude = std::abs(value);
  const auto whole = static_cast<std::int32_t>(magnitude);
  const std::int32_t rounded = whole + (magnitude - static_cast<float>(whole) >= 0.5F ? 1 : 0);
  return static_cast<std::int8_t>(value < 0 ? -rounded : rounded);
}

void encode_q8_0(const float* values, Byte* block) {
  float largest = 0.0F;
  for (std::size_t i = 0; i < kSmallBlock; ++i) largest = std::max(largest, std::abs(values[i]));
  const float scale = largest / 127.0F;
  const float inverse = invert(scale);
  write_f16(f32_to_f16(scale), block);
  for (std::size_t i = 0; i < kSmallBlock; ++i) {
    block[2 + i] = static_cast<Byte>(round_away(values[i] * inverse));
  }
}

void encode_q4_0(const float* values, Byte* block) {
  float largest = 0.0F;  // in magnitude, with its sign
  for (std::size_t i = 0; i < kSmallBlock; ++i) {
    if (std::abs(values[i]) > std::abs(largest)) largest = values[i];
  }
  const float scale = largest / -8.0F;
  const float inverse = invert(scale);
  write_f16(f32_to_f16(scale), block);
  const auto to_nibble = [inverse](float value) {
    return std::min(static_cast<int>(value * inverse + 8.5F), 15);
  };
  for (std::size_t i = 0; i < kSmallBlock / 2; ++i) {
    const int low = to_nibble(values[i]);
    const int high = to_nibble(values[i + kSmallBlock / 2]);
    block[2 + i] = static_cast<Byte>(low | (high << 4));
  }
}

// One value per group of a block.
template <std::size_t num_groups>
using Lanes = std::array<float, num_groups>;

// A block's values, or its integers as floats, with the groups as the fast dimension.
template <std::size_t num_groups>
using Transposed = std::array<Lanes<num_groups>, kLargeBlock / num_groups>;

template <std::size_t num_groups>
Transposed<num_groups> transpose(const float* values) {
  Transposed<num_groups> result;
  for (std::size_t i = 0; i < result.size(); ++i) {
    for (std::size_t lane = 0; lane < num_groups; ++lane) {
      result[i][lane] = values[lane * result.size() + i];
    }
  }
  return result;
}

// Returns the integers plus `shift`, in the order of the elements.
template <std::size_t num_groups>
std::array<Byte, kLargeBlock> to_bytes(const Transposed<num_groups>& integers, float shift) {
  std::array<Byte, kLargeBlock> bytes;
  for (std::size_t lane = 0; lane < num_groups; ++lane) {
    for (std::size_t i = 0; i < integers.size(); ++i) {
      bytes[lane * integers.size() + i] =
          static_cast<Byte>(static_cast<std::int32_t>(integers[i][lane] + shift));
    }
  }
  return bytes;
}

// Q4_K and Q5_K: value = scale · integer - minimum, with integers from 0 to `largest`, and neither
// scale nor minimum negative.
constexpr std::size_t kAffineGroups = 8;
using AffineLanes = Lanes<kAffineGroups>;
using AffineValues = Transposed<kAffineGroups>;

struct AffineFit {
  AffineLanes scales{};
  AffineLanes minima{};
};

// Solves for the scale and minimum with the least squared error over the integers that rounding
// with `inverses` gives, and stores those that are better than all before. `values` are the
// source's plus `offsets`, the minima of the whole range.
void try_affine(const AffineValues& values, const AffineLanes& offsets, const AffineLanes& inverses,
                float largest, AffineFit& best, AffineLanes& best_errors) {
  constexpr std::size_t kGroupSize = kLargeBlock / kAffineGroups;
  constexpr auto kCount = static_cast<float>(kGroupSize);
  AffineLanes sum_x{};
  AffineLanes sum_q{};
  AffineLanes sum_qq{};
  AffineLanes sum_xq{};
  AffineLanes sum_xx{};
  for (const AffineLanes& row : values) {
    for (std::size_t lane = 0; lane < kAffineGroups; ++lane) {
      const float x = row[lane];
      const float q = clamp(round_even(x * inverses[lane]), 0.0F, largest);
      sum_x[lane] += x;
      sum_q[lane] += q;
      sum_qq[lane] += q * q;
      sum_xq[lane] += x * q;
      sum_xx[lane] += x * x;
    }
  }
  for (std::size_t lane = 0; lane < kAffineGroups; ++lane) {
    if (!(sum_qq[lane] > 0)) continue;
    const float determinant = kCount * sum_qq[lane] - sum_q[lane] * sum_q[lane];
    float scale = (kCount * sum_xq[lane] - sum_x[lane] * sum_q[lane]) / determinant;
    float shift = (sum_x[lane] - scale * sum_q[lane]) / kCount;
    if (!(determinant > 0) || shift > offsets[lane]) {  // the minimum would be negative
      shift = offsets[lane];
      scale = (sum_xq[lane] - shift * sum_q[lane]) / sum_qq[lane];
    }
    const float error = sum_xx[lane] + scale * (scale * sum_qq[lane] - 2 * sum_xq[lane]) +
                        shift * (kCount * shift - 2 * sum_x[lane] + 2 * scale * sum_q[lane]);
    if (scale > 0 && error < best_errors[lane]) {
      best.scales[lane] = scale;
      best.minima[lane] = offsets[lane] - shift;
      best_errors[lane] = error;
    }
  }
}

// Returns the best scale and minimum of each group, among rounding with steps around the one that
// spreads the integers over the whole range.
AffineFit fit_affine(AffineValues values, float largest) {
  AffineLanes lows{};
  AffineLanes highs = values[0];
  for (const AffineLanes& row : values) {
    for (std::size_t lane = 0; lane < kAffineGroups; ++lane) {
      lows[lane] = std::min(lows[lane], row[lane]);
      highs[lane] = std::max(highs[lane], row[lane]);
    }
  }
  AffineFit best;
  AffineLanes errors;
  AffineLanes offsets;
  for (std::size_t lane = 0; lane < kAffineGroups; ++lane) {
    offsets[lane] = -lows[lane];
    best.minima[lane] = -lows[lane];
    errors[lane] = std::numeric_limits<float>::infinity();
  }
  for (AffineLanes& row : values) {
    for (std::size_t lane = 0; lane < kAffineGroups; ++lane) row[lane] += offsets[lane];
  }
  constexpr int kNumSteps = 21;
  constexpr float kFirstStep = -1.0F;
  constexpr float kStep = 0.1F;
  for (int i = 0; i < kNumSteps; ++i) {
    AffineLanes inverses;
    for (std::size_t lane = 0; lane < kAffineGroups; ++lane) {
      const float range = highs[lane] - lows[lane];
      inverses[lane] = (largest + kFirstStep + kStep * static_cast<float>(i)) * invert(range);
    }
    try_affine(values, offsets, inverses, largest, best, errors);
  }
  return best;
}

// Rounds the scales, or minima, of a block to multiples of one F16 number, 0 to 63.
struct SharedScale {
  std::uint16_t f16 = 0;
  AffineLanes multiples{};
  AffineLanes values{};
};

SharedScale share_scale(const AffineLanes& wanted) {
  constexpr float kLargest = 63.0F;
  SharedScale result;
  result.f16 = f32_to_f16(*std::ranges::max_element(wanted) / kLargest);
  const float scale = f16_to_f32(result.f16);
  const float inverse = invert(scale);
  for (std::size_t lane = 0; lane < kAffineGroups; ++lane) {
    result.multiples[lane] = clamp(round_even(wanted[lane] * inverse), 0.0F, kLargest);
    result.values[lane] = scale * result.multiples[lane];
  }
  return result;
}

// The reverse of decoding's unpack_scales.
void pack_scales(const SharedScale& scales, const SharedScale& minima, Byte* block) {
  write_f16(scales.f16, block);
  write_f16(minima.f16, block + 2);
  Byte* packed = block + 4;
  const auto bits = [](float multiple) { return static_cast<int>(multiple); };
  for (std::size_t i = 0; i < 4; ++i) {
    const int high_scale = bits(scales.multiples[4 + i]);
    const int high_minimum = bits(minima.multiples[4 + i]);
    packed[i] = static_cast<Byte>(bits(scales.multiples[i]) | ((high_scale >> 4) << 6));
    packed[4 + i] = static_cast<Byte>(bits(minima.multiples[i]) | ((high_minimum >> 4) << 6));
    packed[8 + i] = static_cast<Byte>((high_scale & 0x0f) | ((high_minimum & 0x0f) << 4));
  }
}

// Writes scales and minima to `block` and returns the integers of all elements.
std::array<Byte, kLargeBlock> encode_affine(const float* source, float largest, Byte* block) {
  AffineValues values = transpose<kAffineGroups>(source);
  const AffineFit fit = fit_affine(values, largest);
  const SharedScale scales = share_scale(fit.scales);
  const SharedScale minima = share_scale(fit.minima);
  pack_scales(scales, minima, block);
  AffineLanes inverses;
  for (std::size_t lane = 0; lane < kAffineGroups; ++lane) {
    inverses[lane] = invert(scales.values[lane]);
  }
  for (AffineLanes& row : values) {
    for (std::size_t lane = 0; lane < kAffineGroups; ++lane) {
      const float quotient = (row[lane] + minima.values[lane]) * inverses[lane];
      row[lane] = round_even(clamp(quotient, 0.0F, largest));
    }
  }
  return to_bytes<kAffineGroups>(values, 0.0F);
}

// 32 bytes for each two groups of 32: the first in the low halves, the second in the high ones.
void write_nibbles(const std::array<Byte, kLargeBlock>& integers, Byte* nibbles) {
  constexpr std::size_t kGroup = 32;
  for (std::size_t i = 0; i < kLargeBlock / 2; ++i) {
    const std::size_t first = i / kGroup * 2 * kGroup + i % kGroup;
    nibbles[i] =
        static_cast<Byte>((integers[first] & 0x0f) | ((integers[first + kGroup] & 0x0f) << 4));
  }
}

void encode_q4_k(const float* values, Byte* block) {
  constexpr float kLargest = 15.0F;
  write_nibbles(encode_affine(values, kLargest, block), block + 16);
}

void encode_q5_k(const float* values, Byte* block) {
  constexpr float kLargest = 31.0F;
  const std::array<Byte, kLargeBlock> integers = encode_affine(values, kLargest, block);
  Byte* fifth_bits = block + 16;
  std::fill_n(fifth_bits, 32, Byte{0});
  for (std::size_t i = 0; i < kLargeBlock; ++i) {
    fifth_bits[i % 32] |= static_cast<Byte>((integers[i] >> 4) << (i / 32));
  }
  write_nibbles(integers, block + 48);
}

// Q6_K: value = scale · integer, with integers from -32 to 31.
constexpr std::size_t kLinearGroups = 16;
using LinearLanes = Lanes<kLinearGroups>;
using LinearValues = Transposed<kLinearGroups>;
constexpr float kLowest6 = -32.0F;
constexpr float kHighest6 = 31.0F;

// As try_affine, without minimum. The gain of a scale is the squared error that it removes.
void try_linear(const LinearValues& values, const LinearLanes& inverses, LinearLanes& best_scales,
                LinearLanes& best_gains) {
  LinearLanes sum_qq{};
  LinearLanes sum_xq{};
  for (const LinearLanes& row : values) {
    for (std::size_t lane = 0; lane < kLinearGroups; ++lane) {
      const float q = clamp(round_even(row[lane] * inverses[lane]), kLowest6, kHighest6);
      sum_qq[lane] += q * q;
      sum_xq[lane] += row[lane] * q;
    }
  }
  for (std::size_t lane = 0; lane < kLinearGroups; ++lane) {
    if (!(sum_qq[lane] > 0)) continue;
    const float scale = sum_xq[lane] / sum_qq[lane];
    const float gain = scale * sum_xq[lane];
    if (gain > best_gains[lane]) {
      best_scales[lane] = scale;
      best_gains[lane] = gain;
    }
  }
}

LinearLanes fit_linear(const LinearValues& values) {
  LinearLanes largest{};  // in magnitude, with their signs
  for (const LinearLanes& row : values) {
    for (std::size_t lane = 0; lane < kLinearGroups; ++lane) {
      largest[lane] = std::abs(row[lane]) > std::abs(largest[lane]) ? row[lane] : largest[lane];
    }
  }
  LinearLanes scales{};
  LinearLanes gains{};
  constexpr int kNumSteps = 19;
  constexpr float kFirstStep = -0.9F;
  constexpr float kStep = 0.1F;
  for (int i = 0; i < kNumSteps; ++i) {
    const float steps = kLowest6 - kFirstStep - kStep * static_cast<float>(i);
    LinearLanes inverses;
    for (std::size_t lane = 0; lane < kLinearGroups; ++lane) {
      inverses[lane] = steps * invert(largest[lane]);
    }
    try_linear(values, inverses, scales, gains);
  }
  return scales;
}

void encode_q6_k(const float* source, Byte* block) {
  LinearValues values = transpose<kLinearGroups>(source);
  const LinearLanes wanted = fit_linear(values);
  const float largest =
      *std::ranges::max_element(wanted, {}, [](float scale) { return std::abs(scale); });
  const std::uint16_t shared_f16 = f32_to_f16(largest / -128.0F);
  const float shared = f16_to_f32(shared_f16);
  const float shared_inverse = invert(shared);
  LinearLanes inverses;
  for (std::size_t lane = 0; lane < kLinearGroups; ++lane) {
    const float multiple = clamp(round_even(wanted[lane] * shared_inverse), -128.0F, 127.0F);
    inverses[lane] = invert(shared * multiple);
    block[192 + lane] = static_cast<Byte>(static_cast<std::int8_t>(multiple));
  }
  write_f16(shared_f16, block + 208);
  for (LinearLanes& row : values) {
    for (std::size_t lane = 0; lane < kLinearGroups; ++lane) {
      row[lane] = round_even(clamp(row[lane] * inverses[lane], kLowest6, kHighest6));
    }
  }
  const std::array<Byte, kLargeBlock> integers = to_bytes<kLinearGroups>(values, -kLowest6);
  std::fill_n(block, 192, Byte{0});
  for (std::size_t i = 0; i < kLargeBlock; ++i) {
    const std::size_t half = i / 128;
    const std::size_t group = i / 32 % 4;
    block[half * 64 + i % 64] |= static_cast<Byte>((integers[i] & 0x0f) << (group / 2 * 4));
    block[128 + half * 32 + i % 32] |= static_cast<Byte>((integers[i] >> 4) << (group * 2));
  }
}

template <BlockFormat format, void (*encode)(const float*, Byte*)>
void encode_all(const float* values, std::size_t num_blocks, std::byte* blocks) {
  auto* to = reinterpret_cast<Byte*>(blocks);
  for (std::size_t i = 0; i < num_blocks; ++i) {
    encode(values + i * elements_per_block(format), to + i * bytes_per_block(format));
  }
}

}  // namespace

EncodeBlocksFn find_block_encoder(BlockFormat format) {
  switch (format) {
    case BlockFormat::kQ8_0:
      return encode_all<BlockFormat::kQ8_0, encode_q8_0>;
    case BlockFormat::kQ4_0:
      return encode_all<BlockFormat::kQ4_0, encode_q4_0>;
    case BlockFormat::kQ4K:
      return encode_all<BlockFormat::kQ4K, encode_q4_k>;
    case BlockFormat::kQ5K:
      return encode_all<BlockFormat::kQ5K, encode_q5_k>;
    case BlockFormat::kQ6K:
      return encode_all<BlockFormat::kQ6K, encode_q6_k>;
    case BlockFormat::kQ4_1:
    case BlockFormat::kQ5_0:
    case BlockFormat::kQ5_1:
    case BlockFormat::kQ2K:
    case BlockFormat::kQ3K:
      break;
  }
  return nullptr;
}

}  // namespace mochi
