#include "tensor/float_arrays.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/error.h"

namespace mochi {
namespace {

// A float format by its textbook definition.
struct FloatFormat {
  int exponent_bits;
  int mantissa_bits;
  bool has_infinity;  // else only an all-ones magnitude is special: NaN
};

float decode(const FloatFormat& format, std::uint32_t code) {
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const std::uint32_t mantissa = code & ((1U << format.mantissa_bits) - 1);
  const std::uint32_t exponent =
      (code >> format.mantissa_bits) & ((1U << format.exponent_bits) - 1);
  const bool is_negative = (code >> (format.mantissa_bits + format.exponent_bits)) != 0;
  const bool is_top = exponent == (1U << format.exponent_bits) - 1;
  const bool is_all_ones = is_top && mantissa == (1U << format.mantissa_bits) - 1;
  double value = 0;
  if (format.has_infinity && is_top) {
    value = mantissa == 0 ? HUGE_VAL : std::nan("");
  } else if (!format.has_infinity && is_all_ones) {
    value = std::nan("");
  } else if (exponent == 0) {
    value = std::ldexp(mantissa, 1 - bias - format.mantissa_bits);
  } else {
    value = std::ldexp(1.0 + std::ldexp(mantissa, -format.mantissa_bits),
                       static_cast<int>(exponent) - bias);
  }
  return static_cast<float>(is_negative ? -value : value);
}

void expect_same(float found, float wanted, std::uint32_t code) {
  if (std::isnan(wanted)) {
    EXPECT_TRUE(std::isnan(found)) << code;
  } else {
    EXPECT_EQ(found, wanted) << code;
  }
  EXPECT_EQ(std::signbit(found), std::signbit(wanted)) << code;
}

TEST(Convert, EveryE4M3Value) {
  for (std::uint32_t code = 0; code < 256; ++code) {
    expect_same(f8_e4m3_to_f32(static_cast<std::uint8_t>(code)), decode({4, 3, false}, code), code);
  }
  EXPECT_EQ(f8_e4m3_to_f32(0x7e), 448.0F);
  EXPECT_EQ(f8_e4m3_to_f32(0x01), 0x1p-9F);
  EXPECT_TRUE(std::isnan(f8_e4m3_to_f32(0xff)));
}

TEST(Convert, EveryE5M2Value) {
  for (std::uint32_t code = 0; code < 256; ++code) {
    expect_same(f8_e5m2_to_f32(static_cast<std::uint8_t>(code)), decode({5, 2, true}, code), code);
  }
  EXPECT_EQ(f8_e5m2_to_f32(0x7b), 57344.0F);
  EXPECT_EQ(f8_e5m2_to_f32(0xfc), -std::numeric_limits<float>::infinity());
}

TEST(Convert, EveryF16Value) {
  for (std::uint32_t code = 0; code < 65536; ++code) {
    expect_same(f16_to_f32(static_cast<std::uint16_t>(code)), decode({5, 10, true}, code), code);
  }
  EXPECT_EQ(f16_to_f32(0x0001), 0x1p-24F);
  EXPECT_EQ(f16_to_f32(0x7bff), 65504.0F);
}

TEST(Convert, EveryBf16Value) {
  for (std::uint32_t code = 0; code < 65536; ++code) {
    expect_same(bf16_to_f32(static_cast<std::uint16_t>(code)), decode({8, 7, true}, code), code);
  }
}

TEST(Convert, Bf16SurvivesTheRoundTrip) {
  for (std::uint32_t code = 0; code < 65536; ++code) {
    const float value = bf16_to_f32(static_cast<std::uint16_t>(code));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(value)))) << code;
    } else {
      EXPECT_EQ(f32_to_bf16(value), code);
    }
  }
}

TEST(Convert, RoundsToNearestEven) {
  const auto rounded = [](std::uint32_t bits) { return f32_to_bf16(std::bit_cast<float>(bits)); };
  EXPECT_EQ(rounded(0x3f807fffU), 0x3f80U);  // just below the tie
  EXPECT_EQ(rounded(0x3f808000U), 0x3f80U);  // tie to the even one below
  EXPECT_EQ(rounded(0x3f808001U), 0x3f81U);
  EXPECT_EQ(rounded(0x3f818000U), 0x3f82U);  // tie to the even one above
  EXPECT_EQ(rounded(0xbf818000U), 0xbf82U);
  EXPECT_EQ(rounded(0x7f7fffffU), 0x7f80U);  // the largest float becomes infinity
  EXPECT_EQ(rounded(0x00000001U), 0x0000U);
  EXPECT_EQ(rounded(0x80000000U), 0x8000U);
}

TEST(Convert, NanStaysNanWithItsSign) {
  // A payload in the low bits only would round to infinity.
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x7f800001U)), 0x7fc0U);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0xffffffffU)), 0xffffU);
}

template <typename Code>
std::vector<std::byte> unaligned_codes(std::size_t count) {
  std::vector<std::byte> bytes(count * sizeof(Code) + 1);
  for (std::size_t i = 0; i < count; ++i) {
    const auto code = static_cast<Code>(i * 7);
    std::memcpy(bytes.data() + 1 + i * sizeof(Code), &code, sizeof(Code));
  }
  return bytes;
}

TEST(Convert, WholeArraysOfAnyAlignment) {
  constexpr std::size_t kCount = 200'003;  // several ranges and an odd tail
  const auto halves = unaligned_codes<std::uint16_t>(kCount);
  std::vector<float> floats(kCount);
  convert_to_f32(DType::kF16, std::span(halves).subspan(1), floats);
  std::vector<BFloat16> rounded(kCount);
  convert_to_bf16(DType::kF16, std::span(halves).subspan(1), rounded);
  for (std::size_t i = 0; i < kCount; ++i) {
    const float wanted = f16_to_f32(static_cast<std::uint16_t>(i * 7));
    ASSERT_EQ(std::bit_cast<std::uint32_t>(floats[i]), std::bit_cast<std::uint32_t>(wanted)) << i;
    ASSERT_EQ(rounded[i].bits, f32_to_bf16(wanted)) << i;
  }
}

TEST(Convert, EveryFloatTypeIsAccepted) {
  const std::array<std::byte, 4> zeros{};
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2}) {
    float value = 1;
    convert_to_f32(dtype, std::span(zeros).first(dtype_bytes(dtype)), {&value, 1});
    EXPECT_EQ(value, 0.0F) << dtype_name(dtype);
  }
}

// Codes from 0 up that are finite: the first that is not follows them.
template <typename Code>
void expect_first_not_finite(DType dtype, Code wanted) {
  for (std::uint32_t sign : {0U, 1U << (8 * sizeof(Code) - 1)}) {
    const auto bad = static_cast<Code>(wanted | sign);
    const auto good = static_cast<Code>(bad - 1);
    EXPECT_FALSE(all_finite(dtype, std::as_bytes(std::span(&bad, 1)))) << dtype_name(dtype);
    EXPECT_TRUE(all_finite(dtype, std::as_bytes(std::span(&good, 1)))) << dtype_name(dtype);
  }
}

TEST(Convert, FindsValuesThatAreNotFinite) {
  expect_first_not_finite<std::uint32_t>(DType::kF32, 0x7f800000U);
  expect_first_not_finite<std::uint16_t>(DType::kF16, 0x7c00U);
  expect_first_not_finite<std::uint16_t>(DType::kBF16, 0x7f80U);
  expect_first_not_finite<std::uint8_t>(DType::kF8E4M3, 0x7fU);
  expect_first_not_finite<std::uint8_t>(DType::kF8E5M2, 0x7cU);
  const std::array<std::uint32_t, 1> ones{~0U};
  EXPECT_TRUE(all_finite(DType::kI32, std::as_bytes(std::span(ones))));
  EXPECT_TRUE(all_finite(DType::kF32, {}));
}

TEST(Convert, FindsTheOneValueOfManyThatIsNotFinite) {
  std::vector<std::byte> bytes(1 + 200'003 * sizeof(float));
  const auto all = std::span(bytes).subspan(1);  // unaligned
  EXPECT_TRUE(all_finite(DType::kF32, all));
  const float bad = -std::numeric_limits<float>::infinity();
  std::memcpy(all.data() + 150'000 * sizeof(float), &bad, sizeof(bad));
  EXPECT_FALSE(all_finite(DType::kF32, all));
}

TEST(Convert, RefusesIntegersAndWrongSizes) {
  const std::array<std::byte, 4> bytes{};
  float value = 0;
  EXPECT_THROW(convert_to_f32(DType::kI32, bytes, {&value, 1}), Error);
  EXPECT_THROW(convert_to_f32(DType::kF16, bytes, {&value, 1}), Error);
}

}  // namespace
}  // namespace mochi
