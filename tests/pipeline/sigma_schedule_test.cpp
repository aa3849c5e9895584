#include "pipeline/sigma_schedule.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/json.h"

namespace mochi {
namespace {

TEST(SigmaSchedule, MatchesDiffusers) {
  const Json golden =
      read_json(std::filesystem::path(MOCHI_GOLDEN_DIR) / "sampler/sigma_schedules.json");
  ASSERT_EQ(golden.size(), 3U);
  for (const Json& item : golden) {
    const int linear_steps = item["linear_steps"].is_null() ? 0 : item["linear_steps"].get<int>();
    const auto got = linear_quadratic_schedule(item["num_steps"].get<int>(),
                                               item["threshold_noise"].get<double>(), linear_steps);
    const auto want = item["sigmas"].get<std::vector<double>>();
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-14) << i;
  }
}

TEST(SigmaSchedule, OneStepGoesAllTheWay) {
  EXPECT_EQ(linear_quadratic_schedule(1, 0.025, 0), (std::vector<double>{1.0, 0.0}));
}

TEST(SigmaSchedule, TwoSteps) {
  const auto sigmas = linear_quadratic_schedule(2, 0.25, 0);
  EXPECT_EQ(sigmas, (std::vector<double>{1.0, 0.75, 0.0}));
}

TEST(SigmaSchedule, RefusesInvalidSchedules) {
  const auto error_of = [](int num_steps, double threshold_noise, int linear_steps) {
    return message_of<Error>(
        [&] { linear_quadratic_schedule(num_steps, threshold_noise, linear_steps); });
  };
  expect_contains(error_of(0, 0.025, 0), "num_steps: wanted at least 1");
  expect_contains(error_of(8, 1.0, 0), "threshold_noise: wanted 0 to below 1");
  expect_contains(error_of(8, -0.1, 0), "threshold_noise: wanted 0 to below 1");
  expect_contains(error_of(8, 0.1, 8),
                  "linear_steps: wanted 0 (half of the steps) or more, less than num_steps (8)");
  expect_contains(error_of(8, 0.1, -1),
                  "linear_steps: wanted 0 (half of the steps) or more, less than num_steps (8)");
  expect_contains(error_of(8, 0.9, 1), "rise at step");
}

}  // namespace
}  // namespace mochi
