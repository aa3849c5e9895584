#include "tensor/float8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace mochi {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Returns a value by the format's definition, for codes 0 to 0x7e.
double value_of(int code) {
  const int exponent = code >> 3;
  const int mantissa = code & 7;
  return exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
}

// Checks both signs of one magnitude.
void expect_code(float value, int code) {
  EXPECT_EQ(f32_to_f8_e4m3(value), code) << value;
  EXPECT_EQ(f32_to_f8_e4m3(-value), code | 0x80) << -value;
}

TEST(Float8, EveryCodeIsItsOwnRounding) {
  for (int code = 0; code < 256; ++code) {
    const float value = f8_e4m3_to_f32(static_cast<std::uint8_t>(code));
    EXPECT_EQ(f32_to_f8_e4m3(value), code);
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(value)) << code;
    } else {
      EXPECT_EQ(value, value_of(code & 0x7f) * (code < 128 ? 1 : -1)) << code;
    }
  }
}

TEST(Float8, RoundsToTheNearerValue) {
  for (int code = 0; code < 0x7e; ++code) {
    const auto middle = static_cast<float>((value_of(code) + value_of(code + 1)) / 2);
    expect_code(std::nextafter(middle, 0.0F), code);
    expect_code(middle, code % 2 == 0 ? code : code + 1);  // ties go to the even code
    expect_code(std::nextafter(middle, kInfinity), code + 1);
  }
}

TEST(Float8, TooLargeValuesBecomeTheLargest) {
  for (const float value :
       {448.0F, 449.0F, 464.0F, 480.0F, 1e30F, std::numeric_limits<float>::max(), kInfinity}) {
    expect_code(value, 0x7e);
  }
  EXPECT_EQ(value_of(0x7e), kMaxF8E4M3);
}

TEST(Float8, TooSmallValuesBecomeZero) {
  for (const float value :
       {0.0F, std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::min(), 1e-9F,
        std::nextafter(0x1p-10F, 0.0F)}) {
    expect_code(value, 0);
  }
}

TEST(Float8, NaNStaysNaN) {
  EXPECT_EQ(f32_to_f8_e4m3(std::nanf("")), 0x7f);
  EXPECT_EQ(f32_to_f8_e4m3(-std::nanf("")), 0xff);
}

}  // namespace
}  // namespace mochi
