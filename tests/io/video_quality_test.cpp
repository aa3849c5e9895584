// PSNR and SSIM; the expected values are scikit-image's (tests/golden/generators/quality.py).
#include "io/video_quality.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "io/json.h"

namespace mochi {
namespace {

// The generator's pattern. It uses integers only, so that both draw the same bytes.
std::vector<std::uint8_t> pattern(int width, int height, int shift) {
  std::vector<std::uint8_t> rgb;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        const int value = (x * (5 + c) + y * (3 + 2 * c) + (x * y) / 7 * shift) % 256;
        rgb.push_back(static_cast<std::uint8_t>(value));
      }
    }
  }
  return rgb;
}

TEST(VideoQuality, EqualsScikitImage) {
  const FrameQuality quality = compare_frames(pattern(40, 24, 0), pattern(40, 24, 1), 40, 24);
  const Json golden = read_json(std::filesystem::path(MOCHI_GOLDEN_DIR) / "io/quality.json");
  EXPECT_NEAR(quality.psnr, golden["psnr"].get<double>(), 1e-9);
  EXPECT_NEAR(quality.ssim, golden["ssim"].get<double>(), 1e-9);
  EXPECT_EQ(quality.largest_difference, golden["largest_difference"].get<int>());
}

TEST(VideoQuality, EqualFrames) {
  const FrameQuality quality = compare_frames(pattern(20, 16, 1), pattern(20, 16, 1), 20, 16);
  EXPECT_TRUE(std::isinf(quality.psnr));
  EXPECT_DOUBLE_EQ(quality.ssim, 1);
  EXPECT_EQ(quality.largest_difference, 0);
}

// For 10 and 20 dB the mean error is (0.1 + 0.01) / 2.
TEST(VideoQuality, AVideosPsnrIsThatOfAllItsBytes) {
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<FrameQuality> frames{{.psnr = 10, .ssim = 0.5}, {.psnr = 20, .ssim = 1}};
  EXPECT_NEAR(whole_psnr(frames), -10 * std::log10(0.055), 1e-12);
  EXPECT_DOUBLE_EQ(mean_of(frames, &FrameQuality::ssim), 0.75);
  const std::vector<FrameQuality> with_equal{{.psnr = inf}, {.psnr = 20}};
  EXPECT_NEAR(whole_psnr(with_equal), -10 * std::log10(0.005), 1e-12);
  EXPECT_EQ(whole_psnr(std::vector<FrameQuality>{{.psnr = inf}}), inf);
}

TEST(VideoQuality, SmallFramesHaveOneWindow) {
  const FrameQuality quality = compare_frames(pattern(4, 3, 0), pattern(4, 3, 5), 4, 3);
  EXPECT_TRUE(std::isfinite(quality.ssim));
  EXPECT_THROW(compare_frames(pattern(4, 3, 0), pattern(4, 4, 0), 4, 3), Error);
}

}  // namespace
}  // namespace mochi
