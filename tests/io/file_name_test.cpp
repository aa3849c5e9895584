#include "io/file_name.h"

#include <gtest/gtest.h>

namespace mochi {
namespace {

TEST(FileNameTest, NumbersCountAsNumbers) {
  for (const auto& [less, more] :
       {std::pair{"2", "10"}, std::pair{"frame_9", "frame_10"}, std::pair{"a1b2", "a1b10"},
        std::pair{"a", "a1"}, std::pair{"a9", "b1"}, std::pair{"1", "a"}, std::pair{"009", "10"},
        std::pair{"99999999999999999999", "100000000000000000000"}}) {
    EXPECT_TRUE(natural_less(less, more)) << less << " " << more;
    EXPECT_FALSE(natural_less(more, less)) << less << " " << more;
  }
  EXPECT_FALSE(natural_less("f01", "f1") || natural_less("f1", "f01"));
}

TEST(FileNameTest, EndingsAreLowered) {
  EXPECT_EQ(lower_extension("a/b.MP4"), ".mp4");
  EXPECT_EQ(lower_extension("a.b/c"), "");
  EXPECT_EQ(lower_extension("frames.d/"), "");
}

}  // namespace
}  // namespace mochi
