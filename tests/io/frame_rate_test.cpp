#include "io/frame_rate.h"

#include <gtest/gtest.h>

namespace mochi {
namespace {

struct Spelling {
  const char* text;
  FrameRate rate;
};

TEST(FrameRateTest, ReadsNumbersAndFractions) {
  for (const auto& [text, rate] :
       {Spelling{"30", {30, 1}}, Spelling{"1", {1, 1}}, Spelling{"1000", {1000, 1}},
        Spelling{"24000/1001", {24000, 1001}}, Spelling{"60/2", {30, 1}},
        Spelling{"1/1000", {1, 1000}}, Spelling{"12.5", {25, 2}}, Spelling{"25.0", {25, 1}},
        Spelling{"0.1", {1, 10}}, Spelling{"024", {24, 1}}}) {
    EXPECT_EQ(parse_frame_rate(text), rate) << text;
  }
}

TEST(FrameRateTest, DecimalsOfTelevisionAreExactFractions) {
  for (const auto& [text, rate] :
       {Spelling{"29.97", {30000, 1001}}, Spelling{"23.976", {24000, 1001}},
        Spelling{"23.98", {24000, 1001}}, Spelling{"23.976024", {24000, 1001}},
        Spelling{"59.94", {60000, 1001}}, Spelling{"119.88", {120000, 1001}}}) {
    EXPECT_EQ(parse_frame_rate(text), rate) << text;
  }
  EXPECT_EQ(parse_frame_rate("29.9"), (FrameRate{299, 10}));
  EXPECT_EQ(parse_frame_rate("24.25"), (FrameRate{97, 4}));
}

TEST(FrameRateTest, RefusesEverythingElse) {
  for (const char* text : {"",
                           "0",
                           "-1",
                           "-24/1",
                           "+24",
                           "1001",
                           "0.0001",
                           "1/1001",
                           "24/0",
                           "0/1",
                           "24/",
                           "/1",
                           "24.",
                           ".5",
                           "2.5.1",
                           "24000/1001/1",
                           "1e2",
                           "nan",
                           "inf",
                           " 24",
                           "24 ",
                           "24fps",
                           "0x18",
                           "24/1.5",
                           "29.9700001",
                           "99999999999999999999",
                           "24/99999999999999999999"}) {
    EXPECT_FALSE(parse_frame_rate(text)) << text;
  }
}

TEST(FrameRateTest, IsWrittenAsItIsRead) {
  for (const FrameRate rate : {FrameRate{30, 1}, FrameRate{24000, 1001}, FrameRate{1, 10}}) {
    EXPECT_EQ(parse_frame_rate(format_frame_rate(rate)), rate);
  }
  EXPECT_EQ(format_frame_rate({30, 1}), "30");
  EXPECT_EQ(format_frame_rate({24000, 1001}), "24000/1001");
}

}  // namespace
}  // namespace mochi
