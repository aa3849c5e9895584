#include "server/estimate.h"

#include <gtest/gtest.h>

#include <vector>

namespace mochi::server {
namespace {

Timing timing(std::int64_t num_latents, const std::string& method, int num_evaluated,
              double seconds) {
  return {.workload = {num_latents, 64, 2, method},
          .num_evaluated = num_evaluated,
          .sampling_seconds = seconds,
          .other_seconds = 2};
}

TEST(Estimate, KnowsNothingWithoutAVideo) {
  EXPECT_FALSE(estimate_seconds({1000, 64, 2, "exact"}, {}));
  // The share of evaluated steps is unknown.
  const std::vector<Timing> timings{timing(1000, "exact", 64, 64)};
  EXPECT_FALSE(estimate_seconds({1000, 64, 2, "9 evaluations"}, timings));
}

TEST(Estimate, RepeatsWhatWasMeasured) {
  const std::vector<Timing> timings{timing(1000, "exact", 64, 64)};
  const std::optional<Estimate> estimate = estimate_seconds({1000, 64, 2, "exact"}, timings);
  ASSERT_TRUE(estimate);
  EXPECT_DOUBLE_EQ(estimate->seconds, 66);
  EXPECT_TRUE(estimate->is_measured);
  const std::optional<Estimate> half = estimate_seconds({1000, 32, 2, "exact"}, timings);
  ASSERT_TRUE(half);
  EXPECT_DOUBLE_EQ(half->seconds, 34);
  EXPECT_FALSE(half->is_measured);
}

TEST(Estimate, AssumesTheUsualShareOfSkippedSteps) {
  const std::vector<Timing> timings{timing(1000, "exact", 64, 64)};
  const std::optional<Estimate> careful = estimate_seconds({1000, 64, 2, "skip careful"}, timings);
  ASSERT_TRUE(careful);
  EXPECT_DOUBLE_EQ(careful->seconds, 15 + 2);
  EXPECT_FALSE(careful->is_measured);
  const std::optional<Estimate> short_one = estimate_seconds({1000, 15, 2, "skip fast"}, timings);
  ASSERT_TRUE(short_one);
  EXPECT_DOUBLE_EQ(short_one->seconds, 15 + 2);
}

// A short sampling skips nothing, which says nothing of a long one.
TEST(Estimate, TakesSharesOfSimilarSamplingsOnly) {
  Timing brief = timing(1000, "skip fast", 8, 8);
  brief.workload.num_steps = 8;
  const std::vector<Timing> timings{brief, timing(1000, "exact", 64, 64)};
  const std::optional<Estimate> fast = estimate_seconds({1000, 64, 2, "skip fast"}, timings);
  ASSERT_TRUE(fast);
  EXPECT_DOUBLE_EQ(fast->seconds, 10 + 2);
  EXPECT_FALSE(fast->is_measured);
}

TEST(Estimate, TakesTheMedianOfTheLatest) {
  std::vector<Timing> timings{timing(1000, "exact", 64, 640), timing(1000, "exact", 64, 64),
                              timing(1000, "exact", 64, 64)};
  timings.resize(20, timing(1000, "exact", 64, 6400));  // long ago
  timings[3] = timings[4] = timing(1000, "exact", 64, 64);
  const std::optional<Estimate> estimate = estimate_seconds({1000, 64, 2, "exact"}, timings);
  ASSERT_TRUE(estimate);
  EXPECT_DOUBLE_EQ(estimate->seconds, 66);
}

TEST(Estimate, ScalesToOtherSizesAndMethods) {
  const std::vector<Timing> timings{timing(4000, "skip fast", 16, 80),
                                    timing(1000, "exact", 64, 64)};
  // The nearest size decides.
  const std::optional<Estimate> larger = estimate_seconds({4000, 64, 2, "exact"}, timings);
  ASSERT_TRUE(larger);
  EXPECT_DOUBLE_EQ(larger->seconds, 64 * 5 + 2);
  EXPECT_FALSE(larger->is_measured);
  const std::optional<Estimate> fast = estimate_seconds({1000, 64, 1, "skip fast"}, timings);
  ASSERT_TRUE(fast);
  EXPECT_DOUBLE_EQ(fast->seconds, 16 * 0.5 + 2);  // a quarter of the steps, one branch
}

}  // namespace
}  // namespace mochi::server
