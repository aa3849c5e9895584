#include "tensor/block_decoding.h"

#include <array>
#include <cstdint>
#include <cstring>

#include "tensor/float16.h"

// Inner loops have constant lengths and no branches, so that the compiler vectorises them.

namespace mochi {
namespace {

using Byte = std::uint8_t;

constexpr std::size_t kSmallBlock = 32;   // elements of Q8_0 to Q5_1
constexpr std::size_t kLargeBlock = 256;  // elements of Q2_K to Q6_K
// Four groups of a half share the bytes of two-bit integers.
constexpr std::size_t kHalfBlock = 128;
constexpr std::size_t kGroup = 32;
constexpr std::size_t kGroupsPerHalf = kHalfBlock / kGroup;
constexpr std::size_t kGroups = kLargeBlock / kGroup;
constexpr std::size_t kScaled = 16;  // elements with one scale in Q2_K, Q3_K and Q6_K

float read_f16(const Byte* bytes) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, bytes, sizeof(bits));
  return f16_to_f32(bits);
}

std::uint32_t read_u32(const Byte* bytes) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, bytes, sizeof(bits));
  return bits;
}

// F16 scale, 32 int8.
void decode_q8_0(const Byte* block, float* values) {
  const float scale = read_f16(block);
  const Byte* quants = block + 2;
  for (std::size_t i = 0; i < kSmallBlock; ++i) {
    values[i] = scale * static_cast<float>(static_cast<std::int8_t>(quants[i]));
  }
}

// 16 bytes, whose low halves are elements 0 to 15 and whose high halves are elements 16 to 31.
// to_value(integer) returns an element.
template <typename ToValue>
void decode_nibbles(const Byte* nibbles, float* values, const ToValue& to_value) {
  for (std::size_t i = 0; i < kSmallBlock / 2; ++i) {
    values[i] = to_value(nibbles[i] & 0x0f);
    values[i + kSmallBlock / 2] = to_value(nibbles[i] >> 4);
  }
}

// F16 scale, nibbles; the integers are shifted by 8.
void decode_q4_0(const Byte* block, float* values) {
  const float scale = read_f16(block);
  decode_nibbles(block + 2, values, [scale](int i) { return scale * static_cast<float>(i - 8); });
}

// F16 scale, F16 minimum, nibbles.
void decode_q4_1(const Byte* block, float* values) {
  const float scale = read_f16(block);
  const float minimum = read_f16(block + 2);
  decode_nibbles(block + 4, values, [=](int i) { return scale * static_cast<float>(i) + minimum; });
}

// 32 fifth bits, then nibbles.
template <typename ToValue>
void decode_five_bits(const Byte* bytes, float* values, const ToValue& to_value) {
  const std::uint32_t fifth_bits = read_u32(bytes);
  const Byte* nibbles = bytes + 4;
  for (std::uint32_t i = 0; i < kSmallBlock / 2; ++i) {
    const std::uint32_t low = (nibbles[i] & 0x0fU) | (((fifth_bits >> i) & 1U) << 4);
    const std::uint32_t high = (nibbles[i] >> 4U) | (((fifth_bits >> (i + 16)) & 1U) << 4);
    values[i] = to_value(static_cast<int>(low));
    values[i + kSmallBlock / 2] = to_value(static_cast<int>(high));
  }
}

// F16 scale, fifth bits, nibbles; the integers are shifted by 16.
void decode_q5_0(const Byte* block, float* values) {
  const float scale = read_f16(block);
  decode_five_bits(block + 2, values,
                   [scale](int i) { return scale * static_cast<float>(i - 16); });
}

// F16 scale, F16 minimum, fifth bits, nibbles.
void decode_q5_1(const Byte* block, float* values) {
  const float scale = read_f16(block);
  const float minimum = read_f16(block + 2);
  decode_five_bits(block + 4, values,
                   [=](int i) { return scale * static_cast<float>(i) + minimum; });
}

// 16 bytes (4 bits scale, 4 bits minimum), 64 bytes of two-bit integers, F16 scales of both.
void decode_q2_k(const Byte* block, float* values) {
  const Byte* scales = block;
  const Byte* quants = block + 16;
  const float scale_of_scales = read_f16(block + 80);
  const float scale_of_minima = read_f16(block + 82);
  for (std::size_t part = 0; part < kLargeBlock / kScaled; ++part) {
    const std::size_t group = part / 2;
    const Byte* from = quants + group / kGroupsPerHalf * kGroup + part % 2 * kScaled;
    const std::size_t shift = group % kGroupsPerHalf * 2;
    const float scale = scale_of_scales * static_cast<float>(scales[part] & 0x0f);
    const float minimum = scale_of_minima * static_cast<float>(scales[part] >> 4);
    for (std::size_t i = 0; i < kScaled; ++i) {
      values[part * kScaled + i] = scale * static_cast<float>((from[i] >> shift) & 3) - minimum;
    }
  }
}

// Sixteen scales of 6 bits, shifted by 32: bytes 0 to 7 hold their low halves, bytes 8 to 11 the
// upper two bits.
std::array<float, 16> unpack_q3_k_scales(const Byte* packed) {
  std::array<float, 16> scales{};
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const int low = (packed[i % 8] >> (i / 8 * 4)) & 0x0f;
    const int high = (packed[8 + i % 4] >> (i / 4 * 2)) & 3;
    scales[i] = static_cast<float>((low | (high << 4)) - 32);
  }
  return scales;
}

// 32 bytes of third bits (0 subtracts 4), 64 bytes of two-bit integers, 12 bytes of scales, F16
// scale.
void decode_q3_k(const Byte* block, float* values) {
  const Byte* third_bits = block;
  const Byte* quants = block + 32;
  const std::array<float, 16> scales = unpack_q3_k_scales(block + 96);
  const float scale_of_scales = read_f16(block + 108);
  for (std::size_t part = 0; part < kLargeBlock / kScaled; ++part) {
    const std::size_t group = part / 2;
    const std::size_t offset = part % 2 * kScaled;
    const Byte* from = quants + group / kGroupsPerHalf * kGroup + offset;
    const std::size_t shift = group % kGroupsPerHalf * 2;
    const float scale = scale_of_scales * scales[part];
    for (std::size_t i = 0; i < kScaled; ++i) {
      const int high = (third_bits[offset + i] >> group) & 1;
      const int quant = ((from[i] >> shift) & 3) + 4 * high - 4;
      values[part * kScaled + i] = scale * static_cast<float>(quant);
    }
  }
}

struct ScalesAndMinima {
  std::array<float, kGroups> scales;
  std::array<float, kGroups> minima;
};

// F16 scale of the scales, F16 scale of the minima, then 12 bytes with eight scales and eight
// minima of 6 bits: four of each lie in the low bits of bytes 0 to 7; the others have their low
// halves in bytes 8 to 11, and their upper two bits where those bytes have room.
ScalesAndMinima unpack_scales(const Byte* block) {
  const float scale_of_scales = read_f16(block);
  const float scale_of_minima = read_f16(block + 2);
  const Byte* packed = block + 4;
  ScalesAndMinima result{};
  for (std::size_t i = 0; i < 4; ++i) {
    const int low_scale = packed[i] & 0x3f;
    const int low_minimum = packed[4 + i] & 0x3f;
    const int high_scale = (packed[8 + i] & 0x0f) | ((packed[i] >> 6) << 4);
    const int high_minimum = (packed[8 + i] >> 4) | ((packed[4 + i] >> 6) << 4);
    result.scales[i] = scale_of_scales * static_cast<float>(low_scale);
    result.minima[i] = scale_of_minima * static_cast<float>(low_minimum);
    result.scales[4 + i] = scale_of_scales * static_cast<float>(high_scale);
    result.minima[4 + i] = scale_of_minima * static_cast<float>(high_minimum);
  }
  return result;
}

// The two formats have 16 bytes of scales and minima in front, and nibbles at the end: 32 bytes for
// each two groups. `fifth_bit(group, i)` is 16 or 0, and is added to the i-th nibble of a group.
template <typename FifthBit>
void decode_groups(const Byte* block, const Byte* nibbles, float* values, FifthBit fifth_bit) {
  const ScalesAndMinima unpacked = unpack_scales(block);
  for (std::size_t group = 0; group < kGroups; ++group) {
    const Byte* from = nibbles + group / 2 * kGroup;
    const std::size_t shift = group % 2 * 4;
    const float scale = unpacked.scales[group];
    const float minimum = unpacked.minima[group];
    for (std::size_t i = 0; i < kGroup; ++i) {
      const int quant = ((from[i] >> shift) & 0x0f) | fifth_bit(group, i);
      values[group * kGroup + i] = scale * static_cast<float>(quant) - minimum;
    }
  }
}

void decode_q4_k(const Byte* block, float* values) {
  decode_groups(block, block + 16, values, [](std::size_t, std::size_t) { return 0; });
}

// Between both there are 32 bytes of fifth bits: bit g belongs to group g.
void decode_q5_k(const Byte* block, float* values) {
  const Byte* fifth_bits = block + 16;
  decode_groups(block, block + 48, values, [fifth_bits](std::size_t group, std::size_t i) {
    return ((fifth_bits[i] >> group) & 1) << 4;
  });
}

// 128 bytes of nibbles, 64 bytes of the upper two bits, 16 int8 scales, F16 scale; the integers
// are shifted by 32. In a half, groups 0 and 2 share bytes of nibbles, as 1 and 3 do.
void decode_q6_k(const Byte* block, float* values) {
  const Byte* scales = block + 192;
  const float scale_of_scales = read_f16(block + 208);
  for (std::size_t part = 0; part < kLargeBlock / kScaled; ++part) {
    const std::size_t half = part / 8;
    const std::size_t group = part / 2 % kGroupsPerHalf;
    const std::size_t offset = part % 2 * kScaled;
    const Byte* nibbles = block + half * 64 + group % 2 * kGroup + offset;
    const Byte* upper = block + 128 + half * kGroup + offset;
    const std::size_t shift = group / 2 * 4;
    const std::size_t upper_shift = group * 2;
    const float scale =
        scale_of_scales * static_cast<float>(static_cast<std::int8_t>(scales[part]));
    for (std::size_t i = 0; i < kScaled; ++i) {
      const int quant = ((nibbles[i] >> shift) & 0x0f) | (((upper[i] >> upper_shift) & 3) << 4);
      values[part * kScaled + i] = scale * static_cast<float>(quant - 32);
    }
  }
}

template <BlockFormat format, void (*decode)(const Byte*, float*)>
void decode_all(const std::byte* blocks, std::size_t num_blocks, float* values) {
  const auto* from = reinterpret_cast<const Byte*>(blocks);
  for (std::size_t i = 0; i < num_blocks; ++i) {
    decode(from + i * bytes_per_block(format), values + i * elements_per_block(format));
  }
}

}  // namespace

DecodeBlocksFn find_block_decoder(BlockFormat format) {
  switch (format) {
    case BlockFormat::kQ8_0:
      return decode_all<BlockFormat::kQ8_0, decode_q8_0>;
    case BlockFormat::kQ4_0:
      return decode_all<BlockFormat::kQ4_0, decode_q4_0>;
    case BlockFormat::kQ4_1:
      return decode_all<BlockFormat::kQ4_1, decode_q4_1>;
    case BlockFormat::kQ5_0:
      return decode_all<BlockFormat::kQ5_0, decode_q5_0>;
    case BlockFormat::kQ5_1:
      return decode_all<BlockFormat::kQ5_1, decode_q5_1>;
    case BlockFormat::kQ2K:
      return decode_all<BlockFormat::kQ2K, decode_q2_k>;
    case BlockFormat::kQ3K:
      return decode_all<BlockFormat::kQ3K, decode_q3_k>;
    case BlockFormat::kQ4K:
      return decode_all<BlockFormat::kQ4K, decode_q4_k>;
    case BlockFormat::kQ5K:
      return decode_all<BlockFormat::kQ5K, decode_q5_k>;
    case BlockFormat::kQ6K:
      return decode_all<BlockFormat::kQ6K, decode_q6_k>;
  }
  return nullptr;
}

}  // namespace mochi
