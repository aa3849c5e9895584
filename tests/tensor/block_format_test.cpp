#include "tensor/block_format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/safetensors.h"
#include "tensor/float16.h"

namespace mochi {
namespace {

constexpr std::array kAllFormats{BlockFormat::kQ8_0, BlockFormat::kQ4_0, BlockFormat::kQ4_1,
                                 BlockFormat::kQ5_0, BlockFormat::kQ5_1, BlockFormat::kQ2K,
                                 BlockFormat::kQ3K,  BlockFormat::kQ4K,  BlockFormat::kQ5K,
                                 BlockFormat::kQ6K};

const SafetensorsFile& goldens() {
  static const SafetensorsFile file(MOCHI_GOLDEN_DIR "/io/blocks.safetensors");
  return file;
}

std::span<const std::byte> golden_bytes(const std::string& name) {
  return goldens().entries().at(name).bytes;
}

std::vector<float> golden_floats(const std::string& name) {
  const std::span<const std::byte> bytes = golden_bytes(name);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

std::vector<std::byte> quantized(BlockFormat format, std::span<const float> values) {
  std::vector<std::byte> blocks(values.size() / elements_per_block(format) *
                                bytes_per_block(format));
  quantize(format, values, blocks);
  return blocks;
}

std::vector<float> quantized_and_back(BlockFormat format, std::span<const float> values) {
  std::vector<float> result(values.size());
  dequantize(format, quantized(format, values), result);
  return result;
}

double squared_error(std::span<const float> values, std::span<const float> others) {
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    sum += std::pow(static_cast<double>(values[i]) - static_cast<double>(others[i]), 2);
  }
  return sum;
}

// ‖quantised − source‖ / ‖source‖ of some of the source's rows.
double relative_error(BlockFormat format, std::span<const float> source) {
  const std::vector<float> zeros(source.size());
  return std::sqrt(squared_error(quantized_and_back(format, source), source) /
                   squared_error(source, zeros));
}

TEST(BlockFormat, NamesAreThoseOfGgml) {
  for (const BlockFormat format : kAllFormats) {
    EXPECT_EQ(parse_block_format(block_format_name(format)), format);
  }
  EXPECT_STREQ(block_format_name(BlockFormat::kQ4K), "Q4_K");
  EXPECT_EQ(parse_block_format("q4_k"), std::nullopt);
  EXPECT_EQ(parse_block_format(""), std::nullopt);
}

TEST(BlockFormat, DecodesToTheExactValues) {
  for (const BlockFormat format : kAllFormats) {
    const std::string name = block_format_name(format);
    const std::vector<float> wanted = golden_floats("output." + name);
    std::vector<float> found(wanted.size());
    dequantize(format, golden_bytes("input." + name), found);
    std::size_t num_different = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      num_different +=
          std::bit_cast<std::uint32_t>(wanted[i]) != std::bit_cast<std::uint32_t>(found[i]);
    }
    EXPECT_EQ(num_different, 0U) << name;
  }
}

TEST(BlockFormat, DecodesUnalignedBlocks) {
  const std::span<const std::byte> blocks = golden_bytes("input.Q6_K");
  std::vector<std::byte> shifted(blocks.size() + 1);
  std::ranges::copy(blocks, shifted.begin() + 1);
  std::vector<float> found(golden_floats("output.Q6_K").size());
  dequantize(BlockFormat::kQ6K, std::span(shifted).subspan(1), found);
  EXPECT_EQ(found, golden_floats("output.Q6_K"));
}

TEST(BlockFormat, QuantisesToTheBytesOfGgml) {
  const std::vector<float> source = golden_floats("source");
  for (const BlockFormat format : {BlockFormat::kQ8_0, BlockFormat::kQ4_0}) {
    const std::string name = block_format_name(format);
    const std::span<const std::byte> wanted = golden_bytes("quantised." + name);
    EXPECT_TRUE(std::ranges::equal(quantized(format, source), wanted)) << name;
  }
}

// The bounds are a little above what was measured on normal values.
TEST(BlockFormat, QuantisesWithASmallError) {
  const std::vector<float> source = golden_floats("source");
  constexpr std::size_t kNormalRow = 11;
  const std::span<const float> normal = std::span(source).subspan(kNormalRow * 256);
  EXPECT_LT(relative_error(BlockFormat::kQ4K, normal), 0.0785);
  EXPECT_LT(relative_error(BlockFormat::kQ5K, normal), 0.0393);
  EXPECT_LT(relative_error(BlockFormat::kQ6K, normal), 0.019);
  EXPECT_LT(relative_error(BlockFormat::kQ4K, normal),
            0.9 * relative_error(BlockFormat::kQ4_0, normal));
}

TEST(BlockFormat, QuantisesEachKindOfRowWithinAStepAndAHalfOfItsRange) {
  const std::vector<float> source = golden_floats("source");
  constexpr float kSmallestF16 = 0x1p-24F;
  struct Case {
    BlockFormat format;
    float num_steps;
  };
  for (const Case& c : {Case{BlockFormat::kQ4K, 15}, Case{BlockFormat::kQ5K, 31},
                        Case{BlockFormat::kQ6K, 32}, Case{BlockFormat::kQ8_0, 127}}) {
    for (std::size_t row = 0; row < source.size() / 256; ++row) {
      const std::span<const float> values = std::span(source).subspan(row * 256, 256);
      const auto [low, high] = std::ranges::minmax(values);
      const float range = std::max(high, 0.0F) - std::min(low, 0.0F);
      const std::vector<float> found = quantized_and_back(c.format, values);
      for (std::size_t i = 0; i < values.size(); ++i) {
        ASSERT_NEAR(found[i], values[i], 1.5F * range / c.num_steps + kSmallestF16)
            << block_format_name(c.format) << ", row " << row << ", element " << i;
      }
    }
  }
}

TEST(BlockFormat, QuantisesZerosToZeros) {
  const std::vector<float> zeros(256);
  for (const BlockFormat format : kAllFormats) {
    if (can_quantize(format)) {
      EXPECT_EQ(quantized_and_back(format, zeros), zeros) << block_format_name(format);
    }
  }
}

TEST(BlockFormat, RefusesWhatIsNotWholeBlocks) {
  std::vector<float> values(256);
  std::vector<std::byte> blocks(144);
  EXPECT_THROW(dequantize(BlockFormat::kQ4K, blocks, std::span(values).first(255)), Error);
  EXPECT_THROW(dequantize(BlockFormat::kQ4K, std::span(blocks).first(143), values), Error);
  EXPECT_THROW(quantize(BlockFormat::kQ4K, values, std::span(blocks).first(143)), Error);
  EXPECT_NO_THROW(dequantize(BlockFormat::kQ4K, blocks, values));
  EXPECT_NO_THROW(dequantize(BlockFormat::kQ4K, {}, {}));
}

TEST(BlockFormat, RefusesToQuantiseWhatNoScaleFits) {
  for (const float value : {65536.0F, -65536.0F, std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> values(256);
    values[17] = value;
    EXPECT_THROW(quantized(BlockFormat::kQ8_0, values), Error);
    EXPECT_THROW(quantized(BlockFormat::kQ4K, values), Error);
  }
}

TEST(BlockFormat, RefusesToQuantiseToAFormatThatIsOnlyRead) {
  const std::vector<float> values(256);
  for (const BlockFormat format : kAllFormats) {
    if (can_quantize(format)) continue;
    EXPECT_THROW(quantized(format, values), Error) << block_format_name(format);
  }
}

TEST(Float16, EveryCodeIsItsOwnRounding) {
  for (std::uint32_t code = 0; code <= 0xffff; ++code) {
    const float value = f16_to_f32(static_cast<std::uint16_t>(code));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(value))));
    } else {
      ASSERT_EQ(f32_to_f16(value), code);
    }
  }
}

TEST(Float16, RoundsToTheNearerValue) {
  for (std::uint16_t code = 0; code < 0x7bff; ++code) {
    const float low = f16_to_f32(code);
    const float middle = (low + f16_to_f32(static_cast<std::uint16_t>(code + 1))) / 2;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0F)), code);
    ASSERT_EQ(f32_to_f16(middle), code + code % 2);  // ties go to the even code
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 1e9F)), code + 1);
    ASSERT_EQ(f32_to_f16(-middle), 0x8000 + code + code % 2);
  }
  EXPECT_EQ(f32_to_f16(65519.0F), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::infinity()), 0x7c00);
}

}  // namespace
}  // namespace mochi
