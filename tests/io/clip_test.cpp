#include "io/clip.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/test_video.h"

namespace mochi {
namespace {

constexpr VideoFormat kClipFormat{16, 8, {24, 1}};

class ClipTest : public testing::Test {
 protected:
  const TempFolder folder_;

  ClipTest() { write_test_video(folder_ / "frames", kClipFormat, 10); }
  std::string error_of(const ClipOptions& options) const {
    return message_of<Error>([&] { read_clip(folder_ / "frames", options); });
  }
};

TEST_F(ClipTest, HoldsTheWantedFrames) {
  const Clip all = read_clip(folder_ / "frames", {});
  EXPECT_EQ(all.num_frames, 10);
  EXPECT_FALSE(all.rate);
  const Clip part = read_clip(folder_ / "frames", {.start = {.frame = 3}, .num_frames = 2});
  ASSERT_EQ(part.num_frames, 2);
  const std::vector<std::uint8_t> second(part.rgb.end() - kClipFormat.frame_bytes(),
                                         part.rgb.end());
  EXPECT_EQ(second, test_frame(kClipFormat, 4));
  EXPECT_EQ(read_clip(folder_ / "frames", {.start = {.frame = 3}}).num_frames, 7);
}

TEST_F(ClipTest, StartsAndLengthsOutsideTheVideoAreRefused) {
  expect_contains(error_of({.start = {.frame = 10}}), "has no frame at the start that is wanted");
  expect_contains(error_of({.num_frames = 11}), "wanted 11 frames");
  expect_contains(error_of({.start = {.seconds = 1}}), "images have no times");
}

TEST_F(ClipTest, SizesAreCheckedBeforeFramesAreRead) {
  int num_read = 0;
  ClipOptions options;
  options.should_stop = [&num_read] {
    ++num_read;
    return false;
  };
  options.check_size = [](FrameSize size, int num_frames) {
    if (num_frames > 1) fail("{}x{} of {}", size.width, size.height, num_frames);
  };
  expect_contains(error_of(options), "16x8 of 10");
  EXPECT_EQ(num_read, 0);
}

TEST_F(ClipTest, StopsBetweenFrames) {
  int num_read = 0;
  ClipOptions options;
  options.should_stop = [&num_read] { return ++num_read == 3; };
  EXPECT_THROW(read_clip(folder_ / "frames", options), Cancelled);
  EXPECT_EQ(num_read, 3);
}

TEST_F(ClipTest, FramesThatMemoryCannotHoldAreRefused) {
  ClipOptions options;
  options.size = FrameSize{1 << 15, 1 << 15};
  options.num_frames = 1 << 15;
  expect_contains(message_of<OutOfMemory>([&] { read_clip(folder_ / "frames", options); }),
                  "GB are free");
}

TEST(ReadStartTest, IsAFrameOrATime) {
  EXPECT_EQ(parse_read_start("48")->frame, 48);
  EXPECT_EQ(parse_read_start("2.5s")->seconds, 2.5);
  EXPECT_EQ(parse_read_start("0s")->seconds, 0);
  for (const char* text :
       {"", "s", "-1", "-1s", "2.5", "1e2s", "nans", "48 ", "99999999s", "99999999999999999999"}) {
    EXPECT_FALSE(parse_read_start(text)) << text;
  }
}

// A picture of four columns of one colour each.
std::vector<std::uint8_t> columns() {
  std::vector<std::uint8_t> rgb;
  for (int i = 0; i < 8; ++i) {
    for (const int value : {10, 20, 200, 210}) {
      rgb.insert(rgb.end(), 3, static_cast<std::uint8_t>(value));
    }
  }
  return rgb;
}

TEST(ResizeTest, CropsPadsAndStretches) {
  const FrameSize from{4, 8};
  const auto cropped = resize_frame(columns(), from, 1, {2, 8}, Fit::kCrop);
  EXPECT_EQ(cropped.size(), 2U * 8 * 3);
  EXPECT_EQ(cropped[0], 20);
  EXPECT_EQ(cropped[3], 200);
  const auto padded = resize_frame(columns(), from, 1, {8, 8}, Fit::kPad);
  EXPECT_EQ(padded[0], 0);
  EXPECT_EQ(padded[3 * 2], 10);
  EXPECT_EQ(padded[3 * 5], 210);
  EXPECT_EQ(padded[3 * 6], 0);
  const auto stretched = resize_frame(columns(), from, 1, {8, 8}, Fit::kStretch);
  EXPECT_NEAR(stretched[0], 10, 2);
  EXPECT_NEAR(stretched[3 * 7], 210, 2);
}

TEST(ResizeTest, HonoursPixelsThatAreNotSquare) {
  // Shown twice as wide, 4x8 pixels are a square, which fills 8x8 whole.
  const auto padded = resize_frame(columns(), {4, 8}, 2, {8, 8}, Fit::kPad);
  EXPECT_NEAR(padded[0], 10, 2);
  EXPECT_NEAR(padded[3 * 7], 210, 2);
}

TEST(ResizeTest, OneColourDoesNotChange) {
  const std::vector<std::uint8_t> grey(33 * 17 * 3, 77);
  for (const FrameSize to : {FrameSize{16, 16}, FrameSize{64, 48}, FrameSize{1, 1}}) {
    for (const std::uint8_t value : resize_frame(grey, {33, 17}, 1, to, Fit::kCrop)) {
      ASSERT_NEAR(value, 77, 1);
    }
  }
}

TEST(ResizeTest, KnowsItsNames) {
  EXPECT_EQ(parse_fit("crop"), Fit::kCrop);
  EXPECT_EQ(parse_fit("pad"), Fit::kPad);
  EXPECT_EQ(parse_fit("stretch"), Fit::kStretch);
  EXPECT_FALSE(parse_fit("Crop"));
}

}  // namespace
}  // namespace mochi
