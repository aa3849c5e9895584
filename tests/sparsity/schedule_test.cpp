#include "sparsity/schedule.h"

#include <gtest/gtest.h>

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
  EXPECT_EQ(full_steps(config, 64), (std::set<int>{0, 1, 15, 30, 45, 60}));
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

}  // namespace
}  // namespace mochi
