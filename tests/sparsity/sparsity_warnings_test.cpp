// Warnings about settings that do not fit the generation or the model.
#include <gtest/gtest.h>

#include "mochi/sparsity.h"

namespace mochi {
namespace {

using Lines = std::vector<std::string>;

Lines warn(const SparsityConfig& config, int num_steps = 64) {
  return sparsity_warnings(config, num_steps, 8, 512);
}

TEST(SparsityWarnings, NameStepsBeyondTheGeneration) {
  SparsityConfig config;
  config.attn.full_step_schedule = {0, 1, 15, 30, 45, 60};
  EXPECT_EQ(warn(config), Lines{});
  EXPECT_EQ(warn(config, 50),
            Lines{"attn.full_step_schedule: step 60 lies beyond the last of 50 steps and is "
                  "ignored"});
  EXPECT_EQ(warn(config, 4),
            Lines{"attn.full_step_schedule: steps 15, 30, 45 and 60 lie beyond the last of 4 steps "
                  "and are ignored"});
  for (int step = 100; step < 200; ++step) config.attn.full_step_schedule->insert(step);
  EXPECT_EQ(warn(config),
            Lines{"attn.full_step_schedule: steps 100, 101, 102, 103, 104, 105, 106, 107 and 92 "
                  "more lie beyond the last of 64 steps and are ignored"});
  config.attn.is_enabled = false;
  EXPECT_EQ(warn(config), Lines{});
}

TEST(SparsityWarnings, NameFullStepsThatCannotBeSkipped) {
  SparsityConfig config;
  config.attn.full_step_schedule = {0, 1, 15};
  config.step_caching = {.is_enabled = true, .skip_step_schedule = {1, 7, 15, 64}};
  EXPECT_EQ(warn(config),
            (Lines{"step_caching.skip_step_schedule: step 64 lies beyond the last of 64 steps and "
                   "is ignored",
                   "step_caching.skip_step_schedule: steps 1 and 15 are full steps and are not "
                   "skipped"}));
}

TEST(SparsityWarnings, ReportThatAllLayersAreDense) {
  SparsityConfig config;
  config.attn.first_n_dense_layers = 8;
  EXPECT_EQ(warn(config), Lines{"attn.first_n_dense_layers = 8 covers all 8 layers: all attention "
                                "is dense"});
}

TEST(SparsityWarnings, ReportThatFeedForwardLayersStayDense) {
  SparsityConfig config;
  config.mlp.first_n_dense_layers = 8;
  EXPECT_EQ(warn(config), Lines{});  // not enabled
  config.mlp.is_enabled = true;
  EXPECT_EQ(warn(config),
            (Lines{"mlp.first_n_dense_layers = 8 covers all 8 layers: all feed-forward layers are "
                   "dense",
                   "mlp.top_keys and mlp.random_keys, rounded to multiples of "
                   "mlp.counts_multiple_of = 256, select all 512 hidden columns: nothing is "
                   "saved"}));
  config.mlp.first_n_dense_layers = 2;
  config.mlp.counts_multiple_of = 16;
  EXPECT_EQ(warn(config), Lines{});
}

// In raster order a window of voxels does not do what its name says.
TEST(SparsityWarnings, ReportTheEffectOfVoxelKeysWithoutVoxels) {
  SparsityConfig config;
  config.attn.local_voxels = 2;
  config.attn.full_attn_to_3d_tail = true;
  EXPECT_EQ(warn(config), Lines{});
  config.patchify_is_enabled = false;
  EXPECT_EQ(warn(config),
            (Lines{"attn.local_voxels = 2 does not select neighbours, because patchify.is_enabled "
                   "is false: each group sees the last 8 x attn.mbm visual tokens instead",
                   "attn.full_attn_to_3d_tail makes attention dense, because patchify.is_enabled "
                   "is false and so no token is in a voxel"}));
}

TEST(SparsityWarnings, NameOverridesThatApplyNowhere) {
  SparsityConfig config;
  config.overrides = {{.layers = {7, 9}, .top_keys = 0.5},
                      {.layers = {8, 9}, .top_keys = 0.5},
                      {.steps = {64, 70}, .top_keys = 0.5}};
  EXPECT_EQ(warn(config),
            (Lines{"overrides[1].layers: layer 8 lies beyond the last of 8 layers, and the entry "
                   "is ignored",
                   "overrides[2].steps: step 64 lies beyond the last of 64 steps, and the entry is "
                   "ignored"}));
}

}  // namespace
}  // namespace mochi
