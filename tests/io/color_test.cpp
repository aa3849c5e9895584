#include "io/color.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace mochi {
namespace {

using Bytes = std::array<std::uint8_t, 3>;

TEST(Color, KnownValuesOfBt601) {
  EXPECT_EQ(rgb_to_ycbcr({0, 0, 0}), (Bytes{16, 128, 128}));
  EXPECT_EQ(rgb_to_ycbcr({255, 255, 255}), (Bytes{235, 128, 128}));
  EXPECT_EQ(rgb_to_ycbcr({255, 0, 0}), (Bytes{81, 90, 240}));
  EXPECT_EQ(rgb_to_ycbcr({0, 255, 0}), (Bytes{145, 54, 34}));
  EXPECT_EQ(rgb_to_ycbcr({0, 0, 255}), (Bytes{41, 240, 110}));
}

TEST(Color, RoundTripIsWithinRounding) {
  for (int red = 0; red < 256; red += 15) {
    for (int green = 0; green < 256; green += 15) {
      for (int blue = 0; blue < 256; blue += 15) {
        const Bytes back = ycbcr_to_rgb(rgb_to_ycbcr(
            {static_cast<float>(red), static_cast<float>(green), static_cast<float>(blue)}));
        EXPECT_LE(std::abs(back[0] - red), 2);
        EXPECT_LE(std::abs(back[1] - green), 2);
        EXPECT_LE(std::abs(back[2] - blue), 2);
      }
    }
  }
}

}  // namespace
}  // namespace mochi
