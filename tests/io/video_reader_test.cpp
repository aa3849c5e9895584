#include "io/video_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/test_video.h"

namespace mochi {
namespace {

constexpr int kNumFrames = 5;

// Every kind of video gives back what was written: exactly for PNG, within the codec otherwise.
struct Kind {
  const char* name;
  VideoFormat format;
  double tolerance;
};

class VideoReaderTest : public testing::TestWithParam<Kind> {};

TEST_P(VideoReaderTest, GivesBackTheFrames) {
  const TempFolder folder;
  const VideoFormat& format = GetParam().format;
  const auto path = folder / GetParam().name;
  write_test_video(path, format, kNumFrames);
  const auto reader = make_video_reader(path);
  ASSERT_EQ(reader->format().width, format.width);
  ASSERT_EQ(reader->format().height, format.height);
  EXPECT_EQ(reader->format().fps.numerator, 30);
  EXPECT_EQ(reader->format().fps.denominator, 1);
  std::vector<std::uint8_t> rgb(format.frame_bytes());
  for (int i = 0; i < kNumFrames; ++i) {
    ASSERT_TRUE(reader->read_frame(rgb)) << i;
    EXPECT_LE(mean_difference(rgb, test_frame(format, i)), GetParam().tolerance) << i;
  }
  EXPECT_FALSE(reader->read_frame(rgb));
  EXPECT_FALSE(reader->read_frame(rgb));
}

INSTANTIATE_TEST_SUITE_P(Kinds, VideoReaderTest,
                         testing::Values(Kind{"frames", {31, 16, {30, 1}}, 0.0},
                                         Kind{"even.y4m", {64, 48, {30, 1}}, 2.0},
                                         Kind{"odd.y4m", {33, 17, {30, 1}}, 1.0},
                                         Kind{"video.mp4", {64, 48, {30, 1}}, 2.5}));

std::string read_error(const std::filesystem::path& path) {
  return message_of<Error>([&] {
    const auto reader = make_video_reader(path);
    std::vector<std::uint8_t> rgb(reader->format().frame_bytes());
    while (reader->read_frame(rgb)) {
    }
  });
}

TEST(VideoReaderErrors, NameTheFile) {
  const TempFolder folder;
  expect_contains(read_error(folder / "missing.mp4"), "missing.mp4': no such file");
  expect_contains(read_error(folder.path()), "holds no PNG or JPEG file");
}

TEST(VideoReaderErrors, BrokenY4m) {
  const TempFolder folder;
  const auto error_of = [&](const std::string& content) {
    return read_error(folder.write("bad.y4m", content));
  };
  const std::string header = "YUV4MPEG2 W2 H2 F30:1 C444\n";
  expect_contains(error_of(""), "the file is empty");
  expect_contains(error_of("RIFF\n"), "not a y4m file");
  expect_contains(error_of(header + "FRAME\n" + std::string(11, 'x')), "truncated frame");
  expect_contains(error_of(header + "FRAM\n" + std::string(12, 'x')), "no frame");
  expect_contains(error_of("YUV4MPEG2 W2 F30:1\n"), "found 2x0");
  expect_contains(error_of("YUV4MPEG2 W99999999 H99999999 F30:1\n"), "frame size");
  expect_contains(error_of("YUV4MPEG2 W-2 H2 F30:1\n"), "frame size");
  expect_contains(error_of("YUV4MPEG2 W2 H2 F0:0\n"), "frame rate");
}

TEST(VideoReaderErrors, FramesOfAFolderMustAgree) {
  const TempFolder folder;
  write_test_video(folder / "frames", {8, 8, {30, 1}}, 1);
  write_test_video(folder / "other", {4, 8, {30, 1}}, 1);
  std::filesystem::rename(folder / "other/frame_00000.png", folder / "frames/frame_00001.png");
  expect_contains(read_error(folder / "frames"), "wanted 8x8 pixels like the first frame");
}

}  // namespace
}  // namespace mochi
