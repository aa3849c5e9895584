#include "io/video_writer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "base/error.h"
#include "base/subprocess.h"
#include "base/temp_folder.h"
#include "io/encoded_video.h"
#include "io/image.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

class VideoWriterTest : public testing::Test {
 protected:
  const TempFolder folder_;

  std::string make_error(const fs::path& path, const VideoFormat& format = kFormat) const {
    return message_of<Error>([&] { make_video_writer(path, format); });
  }
};

TEST_F(VideoWriterTest, Mp4IsTaggedAndHoldsTheFrames) {
  const fs::path path = folder_ / "out.mp4";
  write_test_video(path, kFormat, kNumFrames);
  const Json stream = probe(path);
  EXPECT_EQ(stream["codec_name"], "h264");
  EXPECT_EQ(stream["width"], 64);
  EXPECT_EQ(stream["height"], 48);
  EXPECT_EQ(stream["pix_fmt"], "yuv420p");
  EXPECT_EQ(stream["nb_read_frames"], "7");
  EXPECT_EQ(stream["r_frame_rate"], "30/1");
  EXPECT_EQ(stream["color_space"], "bt709");
  EXPECT_EQ(stream["color_primaries"], "bt709");
  EXPECT_EQ(stream["color_transfer"], "bt709");
  EXPECT_EQ(stream["color_range"], "tv");
  // Wrong by 10 and more if the pixels were made with another matrix than the tags say.
  expect_frames_close(path, kFormat, 2.5);
  EXPECT_EQ(folder_.num_entries(), 1U);
}

TEST_F(VideoWriterTest, Mp4StartsWithItsIndex) {
  write_test_video(folder_ / "out.mp4", kFormat, kNumFrames);
  const std::string content = read_text(folder_ / "out.mp4");
  EXPECT_LT(content.find("moov"), content.find("mdat"));
}

TEST_F(VideoWriterTest, EndingsMayBeInUpperCase) {
  for (const auto& [name, codec] :
       {std::pair{"a.MP4", "h264"}, std::pair{"b.Gif", "gif"}, std::pair{"c.Y4M", "rawvideo"}}) {
    write_test_video(folder_ / name, kFormat, kNumFrames);
    EXPECT_EQ(probe(folder_ / name)["codec_name"], codec);
  }
  EXPECT_EQ(folder_.num_entries(), 3U);
}

TEST_F(VideoWriterTest, MovAndMkv) {
  for (const char* name : {"out.mov", "out.mkv"}) {
    write_test_video(folder_ / name, {64, 48, {24000, 1001}}, kNumFrames);
    const Json stream = probe(folder_ / name);
    EXPECT_EQ(stream["codec_name"], "h264");
    EXPECT_EQ(stream["nb_read_frames"], "7");
    EXPECT_EQ(stream["r_frame_rate"], "24000/1001");
    EXPECT_EQ(stream["color_space"], "bt709");
    expect_frames_close(folder_ / name, kFormat, 2.5);
  }
}

// ffmpeg 5 writes animated WebP and cannot read it, so the chunks are looked at here.
TEST_F(VideoWriterTest, AnimatedWebp) {
  write_test_video(folder_ / "out.webp", {64, 48, {25, 1}}, kNumFrames);
  const std::string content = read_text(folder_ / "out.webp");
  EXPECT_EQ(content.substr(0, 4) + content.substr(8, 4), "RIFFWEBP");
  constexpr std::size_t kDurationOffset = 20;  // from the chunk's name
  int num_frames = 0;
  for (std::size_t at = content.find("ANMF"); at != std::string::npos;
       at = content.find("ANMF", at + 1)) {
    EXPECT_EQ(content[at + kDurationOffset], 40) << "milliseconds of frame " << num_frames;
    ++num_frames;
  }
  EXPECT_EQ(num_frames, kNumFrames);
}

TEST_F(VideoWriterTest, WebmAndGif) {
  write_test_video(folder_ / "out.webm", kFormat, kNumFrames);
  const Json webm = probe(folder_ / "out.webm");
  EXPECT_EQ(webm["codec_name"], "vp9");
  EXPECT_EQ(webm["nb_read_frames"], "7");
  EXPECT_EQ(webm["color_space"], "bt709");
  expect_frames_close(folder_ / "out.webm", kFormat, 3.0);
  write_test_video(folder_ / "out.gif", {64, 48, {25, 1}}, kNumFrames);
  const Json gif = probe(folder_ / "out.gif");
  EXPECT_EQ(gif["codec_name"], "gif");
  EXPECT_EQ(gif["nb_read_frames"], "7");
  expect_frames_close(folder_ / "out.gif", kFormat, 3.0);
}

TEST_F(VideoWriterTest, Y4mIsReadByFfmpeg) {
  write_test_video(folder_ / "out.y4m", {64, 48, {24000, 1001}}, kNumFrames);
  const Json stream = probe(folder_ / "out.y4m");
  EXPECT_EQ(stream["pix_fmt"], "yuv420p");
  EXPECT_EQ(stream["nb_read_frames"], "7");
  EXPECT_EQ(stream["r_frame_rate"], "24000/1001");
  EXPECT_EQ(stream["color_range"], "tv");
  EXPECT_EQ(stream["chroma_location"], "center");
  expect_frames_close(folder_ / "out.y4m", kFormat, 2.0);
}

TEST_F(VideoWriterTest, Y4mOfOddSizeKeepsFullChroma) {
  const VideoFormat odd{33, 17, {30, 1}};
  write_test_video(folder_ / "out.y4m", odd, kNumFrames);
  EXPECT_EQ(probe(folder_ / "out.y4m")["pix_fmt"], "yuv444p");
  expect_frames_close(folder_ / "out.y4m", odd, 2.0);
}

TEST_F(VideoWriterTest, NamesWithAColonAndADash) {
  const fs::path path = folder_ / "-a:b c.mp4";
  write_test_video(path, kFormat, kNumFrames);
  EXPECT_EQ(probe(path)["nb_read_frames"], "7");
}

TEST_F(VideoWriterTest, PngFolders) {
  for (const char* name : {"frames", "dir.v2/"}) {
    write_test_video(folder_ / name, kFormat, kNumFrames);
    const Image image = read_image(folder_ / name / "frame_00006.png");
    EXPECT_EQ(image.rgb, test_frame(kFormat, 6));
    EXPECT_FALSE(fs::exists(folder_ / name / "frame_00007.png"));
  }
  EXPECT_EQ(folder_.num_entries(), 2U);
}

TEST_F(VideoWriterTest, PngFolderReplacesOldFramesOnly) {
  const fs::path path = folder_ / "frames";
  write_test_video(path, kFormat, kNumFrames);
  write_test_video(path, kFormat, 2);
  EXPECT_TRUE(fs::exists(path / "frame_00001.png"));
  EXPECT_FALSE(fs::exists(path / "frame_00002.png"));
  EXPECT_EQ(folder_.num_entries(), 1U);

  folder_.write("frames/frame_00002.png",
                "mine, too");  // a name that an earlier video may have had
  expect_contains(make_error(path), "it holds 'frame_00002.png', which this program did not write");
  fs::remove(path / "frame_00002.png");
  EXPECT_NO_THROW(make_video_writer(path, kFormat));

  folder_.write("frames/notes.txt", "mine");
  expect_contains(make_error(path), "it holds 'notes.txt'");
  EXPECT_TRUE(fs::exists(path / "frame_00001.png"));
  folder_.write("plain", "mine");
  expect_contains(make_error(folder_ / "plain"), "a file of that name exists");
  EXPECT_EQ(folder_.num_entries(), 2U);
}

// Frames that another program put there have the very same names.
TEST_F(VideoWriterTest, FoldersOfForeignFramesAreKept) {
  write_test_video(folder_ / "out.mp4", kFormat, 2);
  fs::create_directory(folder_ / "mine");
  run_program({"ffmpeg", "-v", "error", "-i", (folder_ / "out.mp4").string(), "-start_number", "0",
               (folder_ / "mine/frame_%05d.png").string()});
  expect_contains(make_error(folder_ / "mine"), "it holds 'frame_0000");
  fs::create_directory(folder_ / "empty");
  EXPECT_NO_THROW(make_video_writer(folder_ / "empty", kFormat));
}

TEST_F(VideoWriterTest, DashesAndNamesOfAnEndingAloneAreRefused) {
  expect_contains(make_error("-"), "cannot write to '-'");
  expect_contains(make_error(folder_ / ".mp4"), "nothing before its ending");
  expect_contains(make_error(folder_ / ".Y4M"), "nothing before its ending");
  EXPECT_EQ(folder_.num_entries(), 0U);
}

TEST_F(VideoWriterTest, NothingAppearsWithoutFinish) {
  for (const char* name : {"out.mp4", "out.webm", "out.gif", "out.y4m", "frames"}) {
    {
      const auto writer = make_video_writer(folder_ / name, kFormat);
      writer->write_frame(test_frame(kFormat, 0));
      EXPECT_FALSE(fs::exists(folder_ / name)) << name;
    }
    EXPECT_EQ(folder_.num_entries(), 0U) << name;
  }
}

TEST_F(VideoWriterTest, AnUnfinishedVideoLeavesTheOldOne) {
  folder_.write("out.mp4", "old");
  {
    make_video_writer(folder_ / "out.mp4", kFormat)->write_frame(test_frame(kFormat, 0));
  }
  EXPECT_EQ(read_text(folder_ / "out.mp4"), "old");
  EXPECT_EQ(folder_.num_entries(), 1U);
}

TEST_F(VideoWriterTest, AFileThatIsTooLargeIsAnErrorAndLeavesNothing) {
  rlimit old_limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  rlimit limit = old_limit;
  limit.rlim_cur = 100;
  for (const char* name : {"out.y4m", "frames"}) {
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    const std::string message =
        message_of<Error>([&] { write_test_video(folder_ / name, kFormat, 1); });
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old_limit), 0);
    expect_contains(message, (folder_ / name).string());
    expect_contains(message, "File too large");
    EXPECT_EQ(folder_.num_entries(), 0U);
  }
}

// No process has this number: Linux counts to 2^22.
TEST_F(VideoWriterTest, PartsOfKilledRunsAreRemoved) {
  const std::string own = std::to_string(::getpid());
  for (const std::string& name :
       {std::string("a.y4m.part-99999999-4"), "a.y4m.part-" + own + "-9",
        std::string("a.y4m.part-99999999"), std::string("b.y4m.part-99999999-4")}) {
    folder_.write(name, "half");
  }
  fs::create_directory(folder_ / "frames.part-99999999-0");
  folder_.write("frames.part-99999999-0/frame_00000.png", "half");
  write_test_video(folder_ / "a.y4m", kFormat, 1);
  write_test_video(folder_ / "frames/", kFormat, 1);
  EXPECT_FALSE(fs::exists(folder_ / "a.y4m.part-99999999-4"));
  EXPECT_FALSE(fs::exists(folder_ / "frames.part-99999999-0"));
  EXPECT_TRUE(fs::exists(folder_ / ("a.y4m.part-" + own + "-9")));
  EXPECT_TRUE(fs::exists(folder_ / "a.y4m.part-99999999"));
  EXPECT_TRUE(fs::exists(folder_ / "b.y4m.part-99999999-4"));
}

TEST_F(VideoWriterTest, FramesOfTheWrongSizeAreRefused) {
  const auto writer = make_video_writer(folder_ / "out.y4m", kFormat);
  const std::vector<std::uint8_t> small(kFormat.frame_bytes() - 1);
  expect_contains(message_of<Error>([&] { writer->write_frame(small); }), "64x48");
}

TEST_F(VideoWriterTest, FinishNeedsAFrameAndComesOnce) {
  const auto writer = make_video_writer(folder_ / "out.y4m", kFormat);
  expect_contains(message_of<Error>([&] { writer->finish(); }), "no frame");
  writer->write_frame(test_frame(kFormat, 0));
  EXPECT_EQ(writer->num_frames(), 1);
  writer->finish();
  EXPECT_THROW(writer->finish(), Error);
  EXPECT_THROW(writer->write_frame(test_frame(kFormat, 0)), Error);
}

TEST_F(VideoWriterTest, UnknownExtensionsListTheKnownOnes) {
  const std::string message = make_error(folder_ / "out.avi");
  expect_contains(message,
                  ".mp4, .mov, .mkv, .webm, .gif, .webp or .y4m, or no ending for a folder");
  expect_contains(message, "'.avi'");
}

TEST_F(VideoWriterTest, ImpossibleFormatsAreRefused) {
  for (const char* name : {"out.mp4", "out.MOV", "out.mkv"}) {
    expect_contains(make_error(folder_ / name, {63, 48, {30, 1}}), "even width and height");
  }
  expect_contains(make_error(folder_ / "out.gif", {64, 48, {60, 1}}),
                  "at most 50 frames per second");
  expect_contains(make_error(folder_ / "out.webp", {16400, 2, {30, 1}}), "out.webp': ffmpeg");
  expect_contains(make_error(folder_ / "out.y4m", {0, 48, {30, 1}}), "0x48");
  expect_contains(make_error(folder_ / "out.y4m", {64, 48, {30, 0}}), "30/0");
  EXPECT_EQ(folder_.num_entries(), 0U);
}

TEST_F(VideoWriterTest, UnwritableFoldersAreFoundAtOnce) {
  for (const char* name : {"out.mp4", "out.y4m", "frames"}) {
    expect_contains(make_error(folder_ / "missing" / name), "does not exist");
    // Not even root can make files there.
    expect_contains(make_error(fs::path("/proc") / name), "/proc");
  }
}

}  // namespace
}  // namespace mochi
