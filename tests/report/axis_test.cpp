#include "report/axis.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace mochi::report {
namespace {

std::vector<std::string> labels_of(const Axis& axis) {
  std::vector<std::string> labels;
  labels.reserve(axis.ticks.size());
  for (const double tick : axis.ticks) labels.push_back(format_tick(axis, tick));
  return labels;
}

using Labels = std::vector<std::string>;

TEST(Axis, TicksAreRound) {
  EXPECT_EQ(labels_of(make_axis({0, 63}, AxisEnds::kData, 10, true)),
            (Labels{"0", "10", "20", "30", "40", "50", "60"}));
  EXPECT_EQ(labels_of(make_axis({0, 0.93}, AxisEnds::kTicks, 7)),
            (Labels{"0.0", "0.2", "0.4", "0.6", "0.8", "1.0"}));
  EXPECT_EQ(labels_of(make_axis({21.3, 38.8}, AxisEnds::kTicks, 7)),
            (Labels{"20", "25", "30", "35", "40"}));
  EXPECT_EQ(labels_of(make_axis({-0.004, 0.011}, AxisEnds::kTicks, 5)),
            (Labels{"-0.005", "0.000", "0.005", "0.010", "0.015"}));
  EXPECT_EQ(labels_of(make_axis({0, 3e9}, AxisEnds::kTicks, 4)),
            (Labels{"0", "1e+09", "2e+09", "3e+09"}));
}

TEST(Axis, WholeNumbersHaveNoTicksBetweenThem) {
  EXPECT_EQ(labels_of(make_axis({0, 1}, AxisEnds::kData, 10, true)), (Labels{"0", "1"}));
}

TEST(Axis, EndsAtTicksAndIncludesAZeroNearby) {
  const Axis near = make_axis({0.3, 0.93}, AxisEnds::kTicks, 7);
  EXPECT_EQ(near.low, 0);
  EXPECT_NEAR(near.high, 1, 1e-12);
  EXPECT_NEAR(make_axis({21.3, 38.8}, AxisEnds::kTicks, 7).low, 20, 1e-12);
}

TEST(Axis, LogTicksAreOneTwoFiveOrPowersOfTen) {
  EXPECT_EQ(labels_of(make_log_axis({0.013, 0.4}, 7)),
            (Labels{"0.01", "0.02", "0.05", "0.1", "0.2", "0.5"}));
  EXPECT_EQ(labels_of(make_log_axis({1e-5, 2}, 7)),
            (Labels{"1e-05", "0.0001", "0.001", "0.01", "0.1", "1"}));
  EXPECT_LE(make_log_axis({1e-120, 1e120}, 7).ticks.size(), 8U);
}

TEST(Axis, AnyRangeHasPlacesBetweenItsEnds) {
  const double largest = 0.9e150;
  for (const AxisRange range :
       {AxisRange{}, AxisRange{0, 0}, AxisRange{7, 7}, AxisRange{-3, -3},
        AxisRange{1e17, 1e17 + 16}, AxisRange{-largest, largest}, AxisRange{1e-149, 1.1e-149}}) {
    for (const AxisEnds ends : {AxisEnds::kData, AxisEnds::kTicks}) {
      const Axis axis = make_axis(range, ends, 7);
      EXPECT_LT(axis.low, axis.high);
      EXPECT_GE(axis.ticks.size(), 1U);
      EXPECT_LE(axis.ticks.size(), 12U);
      for (const double tick : axis.ticks) {
        EXPECT_GE(axis.place(tick), -1e-6);
        EXPECT_LE(axis.place(tick), 1 + 1e-6);
      }
    }
    if (range.low <= 0) continue;
    const Axis log_axis = make_log_axis(range, 7);
    EXPECT_LT(log_axis.low, log_axis.high);
    EXPECT_GE(log_axis.ticks.size(), 1U);
  }
}

TEST(Axis, OnlyFiniteValuesHaveAPlace) {
  EXPECT_TRUE(is_drawable(-2, false));
  EXPECT_FALSE(is_drawable(-2, true));
  EXPECT_FALSE(is_drawable(0, true));
  EXPECT_FALSE(is_drawable(std::numeric_limits<double>::quiet_NaN(), false));
  EXPECT_FALSE(is_drawable(std::numeric_limits<double>::infinity(), true));
  EXPECT_FALSE(is_drawable(1e300, false));
}

}  // namespace
}  // namespace mochi::report
