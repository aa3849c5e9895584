#include "study/verdict.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/temp_folder.h"

namespace mochi::study {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

std::string verdict_of(std::initializer_list<double> psnrs) {
  std::vector<FrameQuality> frames;
  for (const double psnr : psnrs) frames.push_back({.psnr = psnr, .ssim = 1});
  return make_verdict(frames);
}

TEST(Verdict, DependsOnThePsnr) {
  EXPECT_EQ(verdict_of({kInf, kInf}), "The videos are equal, byte for byte.");
  EXPECT_EQ(verdict_of({45, 45}),
            "You will not see the difference: 45.0 dB, and 45.0 dB in the worst frame (0).");
  EXPECT_EQ(verdict_of({40.1}), "You will not see the difference: 40.1 dB.");
  expect_contains(verdict_of({39.9}), "You will hardly see the difference");
  expect_contains(verdict_of({34.9}), "You will see small differences");
  expect_contains(verdict_of({29.9}), "You will see differences");
  expect_contains(verdict_of({24.9}), "The videos look different");
  expect_contains(verdict_of({0}), "The videos look different");
}

TEST(Verdict, NamesAWorstFrameThatIsWorseThanTheVideo) {
  EXPECT_EQ(
      verdict_of({kInf, 48, 48, 48, 48, 48, 34, 48, 48, 48}),
      "You will not see the difference in most of the video: 42.8 dB. But the worst frame (6) "
      "has 34.0 dB: small differences show if you compare it.");
}

TEST(Verdict, SaysWhetherSparseSamplingPaid) {
  EXPECT_EQ(describe_gain(35.4, 26.3),
            "Sampling was 1.35 times as fast: 26.3 s instead of 35.4 s.");
  EXPECT_EQ(describe_gain(3, 6),
            "Sampling was slower: 6.00 s instead of 3.00 s, 0.50 times as fast.");
  EXPECT_EQ(describe_gain(120, 121), "Sampling was as fast as dense: 121 s instead of 120 s.");
  EXPECT_EQ(describe_gain(0, 0), "Sampling was as fast as dense: 0.00 s instead of 0.00 s.");
}

}  // namespace
}  // namespace mochi::study
