#include "io/video_writer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/subprocess.h"
#include "base/temp_folder.h"
#include "io/image.h"
#include "io/json.h"
#include "io/test_video.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

constexpr VideoFormat kFormat{64, 48, {30, 1}};
constexpr int kNumFrames = 7;

// What ffprobe says about the video stream.
Json probe(const fs::path& path) {
  const std::string text = run_program({"ffprobe", "-v", "error", "-count_frames", "-show_streams",
                                        "-of", "json", "-i", "file:" + path.string()});
  return parse_json(text, path.string())["streams"][0];
}

// The frames as ffmpeg turns them into RGB with its own defaults.
std::string decode(const fs::path& path) {
  return run_program({"ffmpeg", "-v", "error", "-i", "file:" + path.string(), "-f", "rawvideo",
                      "-pix_fmt", "rgb24", "pipe:1"});
}

void expect_frames_close(const fs::path& path, const VideoFormat& format, double tolerance) {
  const std::string decoded = decode(path);
  ASSERT_EQ(decoded.size(), format.frame_bytes() * kNumFrames);
  for (int i = 0; i < kNumFrames; ++i) {
    const auto* begin = reinterpret_cast<const std::uint8_t*>(decoded.data()) +
                        static_cast<std::size_t>(i) * format.frame_bytes();
    EXPECT_LE(mean_difference(test_frame(format, i), {begin, format.frame_bytes()}), tolerance)
        << "frame " << i;
  }
}

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
    const Image image = read_png(folder_ / name / "frame_00006.png");
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
  for (const char* mark :
       {"", "frames written by mochi: ", "frames written by mochi: -1", "some other text: 9"}) {
    folder_.write("mine/.mochi-frames", mark);
    expect_contains(make_error(folder_ / "mine"), "it holds 'frame_0000");
  }
  fs::create_directory(folder_ / "empty");
  EXPECT_NO_THROW(make_video_writer(folder_ / "empty", kFormat));
}

TEST_F(VideoWriterTest, NamesThatAreNoneAreRefused) {
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

// An emptied PATH, or one with a program of ours in it.
class ReplacedPath {
 public:
  explicit ReplacedPath(const std::string& value) : old_(std::getenv("PATH")) {
    ::setenv("PATH", value.c_str(), 1);
  }
  ~ReplacedPath() { ::setenv("PATH", old_.c_str(), 1); }
  ReplacedPath(const ReplacedPath&) = delete;
  ReplacedPath& operator=(const ReplacedPath&) = delete;

 private:
  std::string old_;
};

TEST_F(VideoWriterTest, WithoutFfmpegTheErrorSaysWhatToDo) {
  const ReplacedPath path("");
  const std::string message = make_error(folder_ / "out.mp4");
  expect_contains(message, "ffmpeg was not found");
  expect_contains(message, "apt install ffmpeg");
  expect_contains(message, ".y4m");
  EXPECT_EQ(folder_.num_entries(), 0U);
  write_test_video(folder_ / "out.y4m", kFormat, 2);
  write_test_video(folder_ / "frames", kFormat, 2);
  EXPECT_EQ(folder_.num_entries(), 2U);
}

class FakeFfmpeg : public VideoWriterTest {
 protected:
  // Puts a shell script in the place of ffmpeg; $real in it is the real program.
  void replace_ffmpeg(const std::string& script) {
    const fs::path program =
        programs_.write("ffmpeg", "#!/bin/sh\nreal='" + real_ + "'\n" + script + "\n");
    fs::permissions(program, fs::perms(0755));
    if (!path_) path_.emplace(programs_.path().string() + ":" + std::getenv("PATH"));
  }

 private:
  const std::string real_ = find_program("ffmpeg")->string();
  const TempFolder programs_;
  std::optional<ReplacedPath> path_;
};

constexpr const char* kWithoutX264 =
    "case \" $* \" in *\" libx264 \"*) echo \"[x @ 0x55d0] Unknown encoder 'libx264'\" >&2; exit "
    "1;; "
    "esac\nexec \"$real\" \"$@\"";

TEST_F(FakeFfmpeg, AnotherEncoderTakesThePlaceOfAMissingOne) {
  replace_ffmpeg(kWithoutX264);
  const auto writer = make_video_writer(folder_ / "out.mp4", kFormat);
  expect_contains(writer->note(),
                  "because ffmpeg with libx264 failed (exit code 1): Unknown encoder");
  EXPECT_EQ(writer->note().find("0x55d0"), std::string::npos);
  for (int i = 0; i < kNumFrames; ++i) writer->write_frame(test_frame(kFormat, i));
  writer->finish();
  EXPECT_NE(probe(folder_ / "out.mp4")["codec_name"], "");
  EXPECT_EQ(probe(folder_ / "out.mp4")["color_space"], "bt709");
  expect_frames_close(folder_ / "out.mp4", kFormat, 3.0);
}

TEST_F(FakeFfmpeg, IsFoundWhenItWritesNothing) {
  replace_ffmpeg("cat >/dev/null");
  expect_contains(make_error(folder_ / "out.mp4"), "out.mp4': ffmpeg wrote nothing");
  EXPECT_EQ(folder_.num_entries(), 0U);
}

// The trial of two frames works, and the video itself then comes to nothing, or is cut short.
TEST_F(FakeFfmpeg, IsFoundWhenItWritesTooLittle) {
  const std::string marker = (folder_ / "tried").string();
  const std::string only_trial =
      "if [ ! -e '" + marker + "' ]; then touch '" + marker + "'; exec \"$real\" \"$@\"; fi\n";
  const auto error_of = [&](const std::string& script) {
    fs::remove(marker);
    replace_ffmpeg(only_trial + script);
    return message_of<Error>([&] { write_test_video(folder_ / "out.mp4", kFormat, kNumFrames); });
  };
  expect_contains(error_of("for output; do :; done; cat >/dev/null; : >\"${output#file:}\""),
                  "ffmpeg wrote nothing");
  expect_contains(error_of("head -c 18432 | \"$real\" \"$@\"; cat >/dev/null; exit 0"), "ffmpeg");
  expect_contains(error_of("kill -9 $$"), "was killed by signal 9");
  EXPECT_FALSE(fs::exists(folder_ / "out.mp4"));
}

TEST_F(FakeFfmpeg, ChecksTryEachKindOfVideoOnce) {
  const fs::path log = folder_ / "log";
  replace_ffmpeg("echo x >>'" + log.string() + "'\nexec \"$real\" \"$@\"");
  VideoOutputChecks checks;
  for (const char* name : {"a.mp4", "b.mp4", "c.MP4"}) checks.check(folder_ / name, kFormat);
  const std::size_t num_runs = read_text(log).size();
  checks.check(folder_ / "d.mp4", kFormat);
  EXPECT_EQ(read_text(log).size(), num_runs);
  checks.check(folder_ / "d.mp4", {64, 48, {24, 1}});
  EXPECT_GT(read_text(log).size(), num_runs);
  const auto check_missing = [&] { checks.check(folder_ / "missing/a.mp4", kFormat); };
  expect_contains(message_of<Error>(check_missing), "does not exist");
}

TEST_F(VideoWriterTest, FailingFfmpegIsAnErrorWithItsWords) {
  const TempFolder programs;
  const fs::path program =
      programs.write("ffmpeg", "#!/bin/sh\necho 'Unknown encoder libx264' >&2\nexit 1\n");
  fs::permissions(program, fs::perms(0755));
  const ReplacedPath path(programs.path().string());
  const auto write = [&] {
    write_test_video(folder_ / "out.mp4", {640, 480, {30, 1}}, kNumFrames);
  };
  const std::string message = message_of<Error>(write);
  expect_contains(message, "out.mp4");
  expect_contains(message, "exit code 1");
  expect_contains(message, "Unknown encoder libx264");
  EXPECT_EQ(folder_.num_entries(), 0U);
}

}  // namespace
}  // namespace mochi
