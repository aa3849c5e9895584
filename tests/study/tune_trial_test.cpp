#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/noise.h"
#include "study/trial.h"

namespace mochi::study {
namespace {

Trial make_trial(std::vector<double> seconds, std::vector<double> psnrs) {
  Trial trial;
  for (std::size_t i = 0; i < seconds.size(); ++i)
    trial.evaluations.push_back({seconds[i], psnrs[i]});
  return trial;
}

// By the definition, pair by pair.
std::vector<std::size_t> literal_front(const std::vector<Trial>& trials, std::size_t num_prompts) {
  const auto seconds = [&](std::size_t i) { return trials[i].evaluations[0].seconds; };
  const auto psnr = [&](std::size_t i) { return trials[i].evaluations[0].psnr; };
  std::vector<std::size_t> front;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    bool is_beaten = trials[i].evaluations.size() != num_prompts;
    for (std::size_t j = 0; j < trials.size(); ++j) {
      if (trials[j].evaluations.size() != num_prompts) continue;
      is_beaten = is_beaten || (seconds(j) <= seconds(i) && psnr(j) >= psnr(i) &&
                                (seconds(j) < seconds(i) || psnr(j) > psnr(i)));
    }
    if (!is_beaten) front.push_back(i);
  }
  return front;
}

TEST(Trial, TheFrontEqualsALiteralComputation) {
  constexpr int kNumTrials = 12;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::vector<float> noise(2 * kNumTrials);
    fill_normal(NoiseSource::kMochi, seed, noise);
    std::vector<Trial> trials;
    for (std::size_t i = 0; i < kNumTrials; ++i) {
      // Coarse, so that there are equal ones.
      const double seconds = 5 + std::round(2 * noise[2 * i]);
      trials.push_back(make_trial({seconds}, {30 + std::round(2 * noise[2 * i + 1])}));
      if (i % 5 == 4) trials.back().evaluations.clear();
    }
    std::vector<std::size_t> front = find_pareto_front(trials, {0, 1});
    EXPECT_TRUE(std::ranges::is_sorted(
        front, {}, [&](std::size_t i) { return trials[i].evaluations[0].seconds; }));
    std::ranges::sort(front);
    EXPECT_EQ(front, literal_front(trials, 1)) << seed;
  }
}

TEST(Trial, TheFastestIsCompleteAndGood) {
  const std::vector<Trial> trials{
      make_trial({4, 4}, {30, 40}),  // good
      make_trial({1}, {50}),         // given up
      make_trial({2, 2}, {34, 35}),  // not quite
      make_trial({5, 1}, {35, 35}),  // good, and exactly so
  };
  EXPECT_EQ(find_fastest(trials, {35, 2}), 3U);
  EXPECT_EQ(find_fastest(trials, {35.1, 2}), std::nullopt);
  EXPECT_EQ(find_best(trials, {0, 2}), 0U);
}

TEST(Trial, SpeedIsComparedOnTheTrialsOwnPrompts) {
  const std::vector<double> dense{8, 100};
  EXPECT_DOUBLE_EQ(speed_up(make_trial({4}, {30}), dense), 2);
  EXPECT_DOUBLE_EQ(speed_up(make_trial({4, 50}, {30, 30}), dense), 2);
  EXPECT_EQ(worst_prompt(make_trial({1, 1, 1}, {30, 20, 25})), 1U);
}

}  // namespace
}  // namespace mochi::study
