#include "base/checked_math.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>

#include "base/temp_folder.h"

namespace mochi {
namespace {

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
constexpr std::uint64_t kUnsignedMax = std::numeric_limits<std::uint64_t>::max();

TEST(CheckedMath, ReturnsTheValueUpToTheLimit) {
  EXPECT_EQ(checked_add<std::int64_t>(kMax - 1, 1, "size"), kMax);
  EXPECT_EQ(checked_mul<std::int64_t>(-3, 4, "size"), -12);
  EXPECT_EQ(checked_mul<std::uint64_t>(kUnsignedMax, 1, "size"), kUnsignedMax);
}

TEST(CheckedMath, RefusesOverflow) {
  EXPECT_THROW(checked_add<std::int64_t>(kMax, 1, "size"), Error);
  EXPECT_THROW(checked_add<std::uint64_t>(kUnsignedMax, 1, "size"), Error);
  EXPECT_THROW(checked_mul<std::int64_t>(std::int64_t{1} << 32, std::int64_t{1} << 31, "size"),
               Error);
  EXPECT_THROW(checked_mul<std::uint64_t>(kUnsignedMax, 2, "size"), Error);
}

TEST(CheckedMath, NamesTheQuantity) {
  const auto add = [] { checked_add<std::int64_t>(kMax, 7, "frame size"); };
  expect_contains(message_of<Error>(add), "frame size is too large");
}

TEST(CheckedMath, Product) {
  const std::array<std::int64_t, 3> sizes{2, 3, 5};
  EXPECT_EQ(checked_product<std::int64_t>(sizes, "size"), 30);
  EXPECT_EQ(checked_product<std::int64_t>({}, "size"), 1);
  const std::array<std::int64_t, 3> huge{kMax, 2, 0};
  EXPECT_THROW(checked_product<std::int64_t>(huge, "size"), Error);
}

}  // namespace
}  // namespace mochi
