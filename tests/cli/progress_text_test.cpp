#include "cli/progress_text.h"

#include <gtest/gtest.h>

namespace mochi::cli {
namespace {

Progress sampling(std::int64_t num_done) {
  return {.phase = Phase::kSampling,
          .item = "",
          .num_done = num_done,
          .num_total = 64,
          .seconds = static_cast<double>(num_done) * 2,
          .num_before = 0};
}

TEST(ProgressText, WideTerminalsShowEverything) {
  EXPECT_EQ(describe_running(sampling(16), 1, 100),
            "sampling [######..................] 16/64, 0:33, 2.00 s/step, 1:35 left");
}

TEST(ProgressText, NarrowTerminalsKeepOneLine) {
  EXPECT_EQ(describe_running(sampling(16), 1, 39), "sampling [#...] 16/64, 0:33, 1:35 left");
  EXPECT_EQ(describe_end(sampling(64), 39), "sampling: 64 steps in 128 s");
  Progress loading = sampling(3);
  loading.phase = Phase::kLoading;
  loading.item = "text encoder";
  for (const Progress& progress : {sampling(0), sampling(1), sampling(63), loading}) {
    for (std::size_t width = 0; width < 120; ++width) {
      EXPECT_LE(describe_running(progress, 1e5, width).size(), width);
      EXPECT_LE(describe_end(progress, width).size(), width);
    }
  }
}

TEST(ProgressText, ConvertingIsNotLoading) {
  const Progress progress{
      .phase = Phase::kConverting, .item = "transformer", .num_done = 5, .num_total = 10};
  EXPECT_EQ(describe_begin(progress), "converting the transformer ...");
  EXPECT_EQ(describe_state(progress), "converting the transformer: 5/10");
}

TEST(ProgressText, TheClockRunsOnWithinAStep) {
  EXPECT_EQ(describe_running(sampling(0), 0, 60), "sampling [........................] 0/64, 0:00");
  EXPECT_EQ(describe_running(sampling(0), 7, 60), "sampling [........................] 0/64, 0:07");
  EXPECT_EQ(describe_running(sampling(63), 5, 39), "sampling [###.] 63/64, 2:11, 0:00 left");
}

TEST(ProgressText, ResumedRunsCountTheirOwnSteps) {
  Progress progress = sampling(16);
  progress.num_before = 12;
  progress.seconds = 8;
  EXPECT_EQ(describe_state(progress), "sampling: 16/64, 2.00 s/step, 1:36 left");
  progress.num_done = 12;
  EXPECT_EQ(describe_begin(progress), "sampling: 64 steps, 12 done before");
  progress.num_done = 64;
  progress.seconds = 104;
  EXPECT_EQ(describe_end(progress), "sampling: 52 steps in 104 s, 2.00 s/step");
}

}  // namespace
}  // namespace mochi::cli
