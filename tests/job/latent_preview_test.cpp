#include "job/latent_preview.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/temp_folder.h"
#include "io/image.h"

namespace mochi::job {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// A sampling that a test moves.
class FakeView final : public StepView {
 public:
  int num_done() const override { return done; }
  int num_steps() const override { return 64; }
  const Latents& latents() const override { return values; }
  std::vector<int> evaluated_steps() const override { return evaluated; }
  std::optional<SamplerState> state() const override { return std::nullopt; }

  int done = 0;
  Latents values;
  std::vector<int> evaluated;
};

TEST(ExtrapolateToClean, IsExactOnAStraightPath) {
  constexpr float kNoise = -1.25F;
  constexpr float kClean = 0.75F;
  const auto at = [](double level) {
    return static_cast<float>((1.0 - level) * kClean + level * kNoise);
  };
  for (const double level : {0.999, 0.8, 0.25}) {
    EXPECT_NEAR(extrapolate_to_clean(at(level), at(level - 0.01), level, level - 0.01), kClean,
                2e-4);
  }
  EXPECT_EQ(extrapolate_to_clean(5.0F, 0.5F, 0.1, 0.0), 0.5F);
}

// Two latent channels of three frames, 2 rows and 3 columns. Red shows the first channel, green the
// second, blue is constant.
class PreviewMakerTest : public testing::Test {
 protected:
  PreviewMakerTest() {
    view_.values = {.values = {}, .channels = 2, .num_frames = 3, .height = 2, .width = 3};
  }

  // Moves to the latents (1 − level)·clean + level·noise after `done` steps.
  std::optional<LatentPreview> step_to(int done) {
    view_.done = done;
    view_.values.values.clear();
    const double level = levels_[static_cast<std::size_t>(done)];
    for (int i = 0; i < 2 * 3 * 2 * 3; ++i) {
      const double noise = i % 5 - 2;
      view_.values.values.push_back(static_cast<float>((1 - level) * clean(i) + level * noise));
    }
    for (int step = 0; step < done; ++step) {
      if (std::ranges::find(skipped_, step) == skipped_.end()) view_.evaluated.push_back(step);
    }
    std::ranges::sort(view_.evaluated);
    const auto repeated = std::ranges::unique(view_.evaluated);
    view_.evaluated.erase(repeated.begin(), repeated.end());
    return maker_.on_step(view_);
  }
  static double clean(int i) { return 0.02 * i; }

  std::vector<double> levels_{1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0};
  steady_clock::time_point now_{};
  steady_clock::duration per_look_{};
  FakeView view_;
  std::vector<int> skipped_;
  PreviewMaker maker_{
      LatentMap{.weights = {10, 200, 0, 0, 0, 0, 20, 0, 200, 0, 0, 0, 130, 0, 0, 0, 0, 0}}, levels_,
      [this] { return now_ += per_look_; }};
};

TEST_F(PreviewMakerTest, ShowsTheCleanLatentsOfEachFrame) {
  EXPECT_FALSE(step_to(1));  // nothing to compare with
  const std::optional<LatentPreview> preview = step_to(2);
  ASSERT_TRUE(preview);
  EXPECT_EQ(preview->step, 2);
  EXPECT_EQ(preview->width, 3);
  EXPECT_EQ(preview->height, 2);
  EXPECT_EQ(preview->num_frames, 3);
  EXPECT_EQ(preview->columns, 3);
  const TempFolder folder;
  const Image image = read_image(folder.write("p.jpg", preview->jpeg));
  ASSERT_EQ(image.width, 9);
  ASSERT_EQ(image.height, 2);
  double green = 0;
  for (int frame = 0; frame < 3; ++frame) {
    for (int at = 0; at < 6; ++at) {
      const auto pixel =
          static_cast<std::size_t>((at / 3) * image.width + frame * 3 + at % 3) * kRgbChannels;
      EXPECT_NEAR(image.rgb[pixel + 2], 130, 25);
      green += image.rgb[pixel + 1];
    }
  }
  double wanted = 0;
  for (int i = 18; i < 36; ++i) wanted += 20 + 200 * clean(i);
  EXPECT_NEAR(green / 18, wanted / 18, 4);
}

TEST_F(PreviewMakerTest, IsDueEveryHalfSecond) {
  EXPECT_FALSE(step_to(1));
  EXPECT_TRUE(step_to(2));
  now_ += milliseconds(499);
  EXPECT_FALSE(step_to(3));
  now_ += milliseconds(1);
  EXPECT_FALSE(step_to(4));  // the latents after step 3 were not looked at
  EXPECT_TRUE(step_to(5));
  now_ += milliseconds(500);
  EXPECT_TRUE(step_to(6));  // follows a preview directly
}

TEST_F(PreviewMakerTest, IsRareWhereItIsSlow) {
  per_look_ = milliseconds(10);
  EXPECT_FALSE(step_to(1));
  EXPECT_TRUE(step_to(2));  // took 10 ms
  const steady_clock::time_point first = now_;
  now_ = first + milliseconds(1969);  // two looks of 10 ms, so that the next is after 2 s
  EXPECT_FALSE(step_to(3));
  EXPECT_FALSE(step_to(4));
  EXPECT_FALSE(step_to(5));
  EXPECT_TRUE(step_to(6));
}

TEST_F(PreviewMakerTest, PassesOverStepsThatMayCorrectThePath) {
  skipped_ = {2, 3};
  EXPECT_FALSE(step_to(2));
  EXPECT_TRUE(step_to(3));  // a skipped step
  now_ += milliseconds(500);
  EXPECT_TRUE(step_to(4));
  now_ += milliseconds(500);
  EXPECT_FALSE(step_to(5));  // the evaluation after them
  EXPECT_TRUE(step_to(6));
}

TEST_F(PreviewMakerTest, BeginsWhereARunIsResumed) {
  EXPECT_FALSE(step_to(5));
  EXPECT_TRUE(step_to(6));
}

TEST_F(PreviewMakerTest, ShowsAtMostSixteenFrames) {
  view_.values = {.values = std::vector<float>(2 * 28 * 4),
                  .channels = 2,
                  .num_frames = 28,
                  .height = 1,
                  .width = 4};
  view_.done = 1;
  EXPECT_FALSE(maker_.on_step(view_));
  view_.done = 2;
  view_.evaluated = {0, 1};
  const std::optional<LatentPreview> preview = maker_.on_step(view_);
  ASSERT_TRUE(preview);
  EXPECT_EQ(preview->num_frames, 16);
  EXPECT_EQ(preview->columns, 4);
}

}  // namespace
}  // namespace mochi::job
