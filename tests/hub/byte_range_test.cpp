#include "hub/byte_range.h"

#include <gtest/gtest.h>

namespace mochi::hub {
namespace {

using Ranges = std::vector<ByteRange>;

TEST(RangeSet, MergesRangesThatTouchOrOverlap) {
  RangeSet set;
  set.add({10, 20});
  set.add({30, 40});
  set.add({50, 50});
  EXPECT_EQ(set.ranges(), (Ranges{{10, 20}, {30, 40}}));
  set.add({20, 30});
  EXPECT_EQ(set.ranges(), (Ranges{{10, 40}}));
  set.add({0, 5});
  set.add({3, 60});
  EXPECT_EQ(set.ranges(), (Ranges{{0, 60}}));
  EXPECT_EQ(set.num_bytes(), 60U);
}

TEST(RangeSet, KnowsItsPrefixAndGaps) {
  EXPECT_EQ(RangeSet().gaps(10), (Ranges{{0, 10}}));
  EXPECT_TRUE(RangeSet().gaps(0).empty());
  const RangeSet set({{5, 10}, {20, 30}});
  EXPECT_EQ(set.prefix_end(), 0U);
  EXPECT_EQ(set.gaps(40), (Ranges{{0, 5}, {10, 20}, {30, 40}}));
  EXPECT_EQ(set.gaps(30), (Ranges{{0, 5}, {10, 20}}));
  EXPECT_EQ(RangeSet({{0, 7}, {8, 9}}).prefix_end(), 7U);
}

TEST(RangeSet, OffsetsHave64Bits) {
  constexpr std::uint64_t kFar = std::uint64_t{1} << 40;
  RangeSet set({{kFar, kFar + 5}});
  EXPECT_EQ(set.gaps(kFar + 6), (Ranges{{0, kFar}, {kFar + 5, kFar + 6}}));
}

}  // namespace
}  // namespace mochi::hub
