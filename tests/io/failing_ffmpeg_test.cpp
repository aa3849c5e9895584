// Videos written without ffmpeg, and with one that fails.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/subprocess.h"
#include "base/temp_folder.h"
#include "io/encoded_video.h"
#include "io/video_reader.h"
#include "io/video_writer.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

// An empty PATH, or one with a program of ours in it.
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

class FailingFfmpeg : public testing::Test {
 protected:
  const TempFolder folder_;

  static std::string make_error(const fs::path& path) {
    return message_of<Error>([&] { make_video_writer(path, kFormat); });
  }
};

TEST_F(FailingFfmpeg, IsMissingAndTheErrorSaysWhatToDo) {
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

class FakeFfmpeg : public FailingFfmpeg {
 protected:
  // Puts a shell script in the place of ffmpeg; $real in it is the real program.
  void replace_ffmpeg(const std::string& script) {
    replace("ffmpeg", "real='" + real_ + "'\n" + script);
  }
  void replace(const std::string& name, const std::string& script) {
    const fs::path program = programs_.write(name, "#!/bin/sh\n" + script + "\n");
    fs::permissions(program, fs::perms(0755));
    if (!path_) path_.emplace(programs_.path().string() + ":" + std::getenv("PATH"));
  }

 private:
  const std::string real_ = find_program("ffmpeg")->string();
  const TempFolder programs_;
  std::optional<ReplacedPath> path_;
};

TEST_F(FakeFfmpeg, WordsOfFfmpegNameTheVideoAndNoTemporaryFile) {
  replace_ffmpeg("for last; do :; done; echo \"Error writing trailer of $last\" >&2; exit 1");
  const std::string name = (folder_ / "out.mp4").string();
  expect_contains(make_error(name), "Error writing trailer of " + name + " (");
}

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

// Says so from the second question on that comes `delay` or more after the first one.
StopFn stop_after(std::chrono::milliseconds delay) {
  return [delay, begin = std::chrono::steady_clock::now()] {
    return std::chrono::steady_clock::now() - begin > delay;
  };
}

constexpr std::chrono::milliseconds kSoon{200};

TEST_F(FakeFfmpeg, ThatHangsIsEndedInTheTrial) {
  replace_ffmpeg("exec sleep 1000");
  EXPECT_THROW(make_video_writer(folder_ / "out.mp4", kFormat, stop_after(kSoon)), Cancelled);
  EXPECT_THROW(VideoOutputChecks().check(folder_ / "out.mp4", kFormat, stop_after(kSoon)),
               Cancelled);
  EXPECT_EQ(folder_.num_entries(), 0U);
}

TEST_F(FakeFfmpeg, ThatHangsIsEndedAtAFrameAndAtTheEnd) {
  const TempFolder other;
  const std::string marker = (other / "tried").string();
  const std::string only_trial =
      "if [ ! -e '" + marker + "' ]; then touch '" + marker + "'; exec \"$real\" \"$@\"; fi\n";
  for (const char* hang : {"exec sleep 1000", "cat >/dev/null; exec sleep 1000"}) {
    fs::remove(marker);
    replace_ffmpeg(only_trial + hang);
    bool stops = false;
    const auto writer = make_video_writer(folder_ / "out.mp4", kFormat, [&stops] { return stops; });
    stops = true;
    const auto write = [&] {
      for (int i = 0; i < kNumFrames; ++i) writer->write_frame(test_frame(kFormat, i));
      writer->finish();
    };
    EXPECT_THROW(write(), Cancelled);
  }
  EXPECT_EQ(folder_.num_entries(), 0U);
}

TEST_F(FakeFfmpeg, HangingProgramsOfAReaderAreEnded) {
  write_test_video(folder_ / "a.mp4", kFormat, kNumFrames);
  replace_ffmpeg("exec sleep 1000");
  bool stops = false;
  const auto reader = make_video_reader(folder_ / "a.mp4", {}, [&stops] { return stops; });
  stops = true;
  std::vector<std::uint8_t> frame(kFormat.frame_bytes());
  EXPECT_THROW(reader->read_frame(frame), Cancelled);
  replace("ffprobe", "exec sleep 1000");
  EXPECT_THROW(make_video_reader(folder_ / "a.mp4", {}, stop_after(kSoon)), Cancelled);
}

TEST_F(FakeFfmpeg, AHangingProbeOfTheFinishedVideoIsEnded) {
  replace("ffprobe", "exec sleep 1000");
  replace_ffmpeg("exec \"$real\" \"$@\"");
  bool stops = false;
  const auto writer = make_video_writer(folder_ / "out.mp4", kFormat, [&stops] { return stops; });
  writer->write_frame(test_frame(kFormat, 0));
  stops = true;
  EXPECT_THROW(writer->finish(), Cancelled);
}

TEST_F(FakeFfmpeg, ChecksTellOfAnotherEncoderOnce) {
  replace_ffmpeg(kWithoutX264);
  VideoOutputChecks checks;
  expect_contains(checks.check(folder_ / "a.mp4", kFormat), "a.mp4' is encoded by");
  EXPECT_EQ(checks.check(folder_ / "b.mp4", {64, 48, {24, 1}}), "");
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
  expect_contains(error_of("kill -9 $$"), "was killed by signal 9 (Killed)");
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

TEST_F(FailingFfmpeg, IsAnErrorWithItsMessage) {
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
