#include "sparsity/schedule.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace mochi {
namespace {

std::set<int> full_steps(const SparsityConfig& config, int num_steps) {
  std::set<int> steps;
  for (int step = 0; step < num_steps; ++step) {
    if (step_kind(config, step, 5) == StepKind::kFull) steps.insert(step);
  }
  return steps;
}

TEST(Schedule, MochisFullStepsOf64) {
  const SparsityConfig config =
      load_sparsity_config(std::string(MOCHI_SOURCE_DIR) + "/chipmunk-config.yml").config;
  EXPECT_EQ(full_steps(config, 64), (std::set<int>{0, 1, 30, 36, 42, 50}));
  for (int step = 0; step < 64; ++step) {
    EXPECT_EQ(step_kind(config, step, 0), StepKind::kDense);
    EXPECT_EQ(step_kind(config, step, 1), StepKind::kDense);
    EXPECT_NE(step_kind(config, step, 2), StepKind::kDense);
  }
}

TEST(Schedule, AnIntervalWithoutASchedule) {
  SparsityConfig config;
  config.attn.full_step_every = 10;
  EXPECT_EQ(full_steps(config, 25), (std::set<int>{0, 1, 10, 20}));
  config.attn.full_step_every = 1;
  EXPECT_EQ(full_steps(config, 4), (std::set<int>{0, 1, 2, 3}));
}

TEST(Schedule, StepZeroIsFullWhateverTheScheduleSays) {
  SparsityConfig config;
  config.attn.full_step_schedule = {4};
  EXPECT_EQ(full_steps(config, 8), (std::set<int>{0, 4}));
}

TEST(Schedule, AllStepsAreDenseIfSwitchedOff) {
  SparsityConfig config;
  config.attn.is_enabled = false;
  EXPECT_EQ(step_kind(config, 7, 7), StepKind::kDense);
}

TEST(Schedule, AFullStepIsNeverSkipped) {
  SparsityConfig config;
  config.attn.full_step_schedule = {0, 15};
  config.step_caching.skip_step_schedule = {14, 15, 16};
  EXPECT_FALSE(skips_blocks(config, 14));
  config.step_caching.is_enabled = true;
  EXPECT_TRUE(skips_blocks(config, 14));
  EXPECT_FALSE(skips_blocks(config, 15));
  EXPECT_TRUE(skips_blocks(config, 16));
  EXPECT_FALSE(skips_blocks(config, 17));
}

TEST(Schedule, FeedForwardLayersHaveTheirOwnFullSteps) {
  MlpSparsity mlp;
  mlp.full_step_every = 4;
  for (int step = 0; step < 9; ++step) EXPECT_EQ(is_full_mlp_step(mlp, step), step % 4 == 0);
}

TEST(Schedule, AFullStepOfFeedForwardLayersIsNeverSkipped) {
  SparsityConfig config;
  config.step_caching = {.is_enabled = true, .skip_step_schedule = {8, 9}};
  config.mlp.full_step_every = 4;
  EXPECT_TRUE(skips_blocks(config, 8));
  config.mlp.is_enabled = true;
  EXPECT_FALSE(skips_blocks(config, 8));
  EXPECT_TRUE(skips_blocks(config, 9));
}

TEST(Schedule, TheLastOverrideThatFitsDecides) {
  SparsityConfig config;
  config.attn.top_keys = 0.1;
  config.overrides = {{.layers = {0, 5}, .top_keys = 0.3},
                      {.layers = {3, 3}, .steps = {10, 20}, .top_keys = 0.5}};
  EXPECT_EQ(resolve_attention(config, 0, 6).top_keys, 0.1);
  EXPECT_EQ(resolve_attention(config, 0, 3).top_keys, 0.3);
  EXPECT_EQ(resolve_attention(config, 15, 3).top_keys, 0.5);
  EXPECT_EQ(resolve_attention(config, 21, 3).top_keys, 0.3);
}

std::vector<double> even_sigmas(int num_steps) {
  std::vector<double> sigmas;
  for (int step = 0; step <= num_steps; ++step) sigmas.push_back(1 - 1.0 * step / num_steps);
  return sigmas;
}

TEST(Schedule, IsSpreadOverTheStepsOfAGeneration) {
  SparsityConfig config;
  config.steps = 64;
  config.attn.full_step_schedule = {0, 1, 15, 30, 45, 60, 80};
  config.step_caching.skip_step_schedule = {8, 9, 10, 11, 40};
  config.step_skipping.evaluated_steps = {0, 32, 63};
  config.overrides = {{.steps = {16, 31}}, {.steps = {32}}, {}};
  const SparsityConfig half = fit_schedules(config, even_sigmas(64), even_sigmas(32));
  EXPECT_FALSE(half.steps);
  EXPECT_EQ(half.attn.full_step_schedule, (std::set<int>{0, 1, 7, 15, 22, 30}));
  EXPECT_EQ(half.step_caching.skip_step_schedule, (std::set<int>{4, 5, 20}));
  EXPECT_EQ(half.step_skipping.evaluated_steps, (std::set<int>{0, 16}));
  EXPECT_EQ(half.overrides[0].steps.first, 8);
  EXPECT_EQ(half.overrides[0].steps.last, 15);
  EXPECT_EQ(half.overrides[1].steps.last, std::numeric_limits<int>::max());
  EXPECT_EQ(half.overrides[2].steps.first, 0);
  // A generation of few steps has as many full ones as there is room for.
  const SparsityConfig few = fit_schedules(config, even_sigmas(64), even_sigmas(4));
  EXPECT_EQ(few.attn.full_step_schedule, (std::set<int>{0, 1, 2, 3}));
  const SparsityConfig more = fit_schedules(config, even_sigmas(64), even_sigmas(128));
  EXPECT_EQ(more.attn.full_step_schedule, (std::set<int>{0, 1, 30, 60, 90, 120}));
}

TEST(Schedule, ThresholdsShrinkWithFewSteps) {
  SparsityConfig config;
  config.steps = 64;
  config.step_skipping = {.rule = SkipRule::kLine, .threshold = 0.05};
  const auto skipping_of = [&](int num_steps) {
    return fit_schedules(config, even_sigmas(64), even_sigmas(num_steps)).step_skipping;
  };
  EXPECT_EQ(skipping_of(40).threshold, 0.05);
  EXPECT_EQ(skipping_of(16).threshold, 0.025);
  EXPECT_EQ(skipping_of(15).rule, SkipRule::kOff);
}

TEST(Schedule, IsKeptForTheNumberOfStepsItIsMeantFor) {
  SparsityConfig config;
  config.steps = 64;
  config.attn.full_step_schedule = {0, 1, 15, 70};
  const SparsityConfig fitted = fit_schedules(config, even_sigmas(64), even_sigmas(64));
  EXPECT_EQ(fitted.attn.full_step_schedule, config.attn.full_step_schedule);
}

}  // namespace
}  // namespace mochi
