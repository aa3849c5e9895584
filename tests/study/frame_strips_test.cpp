#include "study/frame_strips.h"

#include <gtest/gtest.h>

#include <array>

#include "base/temp_folder.h"
#include "io/image.h"

namespace mochi::study {
namespace {

std::vector<FrameQuality> make_frames(int count, int worst) {
  std::vector<FrameQuality> frames(static_cast<std::size_t>(count), {.psnr = 40, .ssim = 1});
  frames[static_cast<std::size_t>(worst)].psnr = 20;
  return frames;
}

TEST(FrameStrips, TheWorstFrameIsAmongThem) {
  using Idxs = std::vector<int>;
  EXPECT_EQ(choose_frames(make_frames(43, 0), 6), (Idxs{0, 8, 16, 25, 33, 42}));
  EXPECT_EQ(choose_frames(make_frames(43, 30), 6), (Idxs{0, 8, 16, 25, 30, 42}));
  EXPECT_EQ(choose_frames(make_frames(43, 41), 6), (Idxs{0, 8, 16, 25, 33, 41}));
  EXPECT_EQ(choose_frames(make_frames(1, 0), 6), (Idxs{0}));
  EXPECT_EQ(choose_frames(make_frames(2, 1), 6), (Idxs{0, 1}));
  EXPECT_EQ(choose_frames({}, 6), Idxs{});
}

int gain_of(std::initializer_list<std::pair<std::size_t, std::int64_t>> counts) {
  std::array<std::int64_t, 256> all{};
  for (const auto& [difference, count] : counts) all[difference] = count;
  return choose_gain(all);
}

TEST(FrameStrips, TheGainFitsTheDifferences) {
  EXPECT_EQ(gain_of({{0, 5000}, {3, 5000}}), 64);
  EXPECT_EQ(gain_of({{0, 5000}, {7, 5000}}), 32);
  EXPECT_EQ(gain_of({{0, 5000}, {100, 5000}}), 2);
  EXPECT_EQ(gain_of({{0, 5000}, {128, 5000}}), 1);
  EXPECT_EQ(gain_of({{255, 1}}), 1);
  // Few bytes may leave the range.
  EXPECT_EQ(gain_of({{0, 100'000}, {7, 5000}, {200, 50}}), 32);
  EXPECT_EQ(gain_of({{0, 5000}}), 64);
  EXPECT_EQ(gain_of({}), 64);
}

TEST(FrameStrips, DifferencesAreAmplified) {
  const Frames dense{{10, 20, 30}, {0, 0, 0}};
  const Frames sparse{{13, 15, 30}, {1, 0, 0}};
  const FrameStrips strips = make_strips(dense, sparse, {0}, 1, 1);
  ASSERT_EQ(strips.gain, 32);  // 5 · 32 = 160
  ASSERT_EQ(strips.difference.size(), 1U);
  EXPECT_EQ(strips.difference[0], encode_png(1, 1, std::vector<std::uint8_t>{3 * 32, 5 * 32, 0}));
}

}  // namespace
}  // namespace mochi::study
