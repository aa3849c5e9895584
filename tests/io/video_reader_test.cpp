#include "io/video_reader.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/subprocess.h"
#include "base/temp_folder.h"
#include "io/image.h"
#include "io/test_video.h"
#include "io/video_readers.h"

namespace mochi {
namespace {

constexpr int kNumReadFrames = 5;

// Every kind of video gives back what was written: exactly for PNG, within the codec otherwise.
struct Kind {
  const char* name;
  VideoFormat format;
  double tolerance;
};

class VideoReaderTest : public testing::TestWithParam<Kind> {};

TEST_P(VideoReaderTest, ReturnsTheWrittenFrames) {
  const TempFolder folder;
  const VideoFormat& format = GetParam().format;
  const auto path = folder / GetParam().name;
  write_test_video(path, format, kNumReadFrames);
  const auto reader = make_video_reader(path);
  ASSERT_EQ(reader->format().width, format.width);
  ASSERT_EQ(reader->format().height, format.height);
  EXPECT_EQ(reader->format().fps.numerator, 30);
  EXPECT_EQ(reader->format().fps.denominator, 1);
  std::vector<std::uint8_t> rgb(format.frame_bytes());
  for (int i = 0; i < kNumReadFrames; ++i) {
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

using Args = std::vector<std::string>;

void run_ffmpeg(const Args& args) {
  Args all{"ffmpeg", "-v", "error", "-y"};
  all.insert(all.end(), args.begin(), args.end());
  run_program(all);
}

// All frames, one after the other.
std::vector<std::uint8_t> read_all(VideoReader& reader) {
  std::vector<std::uint8_t> all;
  std::vector<std::uint8_t> frame(reader.format().frame_bytes());
  while (reader.read_frame(frame)) all.insert(all.end(), frame.begin(), frame.end());
  return all;
}

std::vector<std::uint8_t> read_all(const std::filesystem::path& path, const ReadStart& start = {}) {
  return read_all(*make_video_reader(path, start));
}

// A lossless video of ffmpeg's moving test picture.
void make_source(const std::filesystem::path& path, const std::string& size,
                 const Args& args = {}) {
  Args all{"-f", "lavfi", "-i", "testsrc=size=" + size + ":rate=24", "-frames:v", "10"};
  all.insert(all.end(), args.begin(), args.end());
  all.push_back("file:" + path.string());
  run_ffmpeg(all);
}

TEST(VideoReading, RotationIsApplied) {
  const TempFolder folder;
  make_source(folder / "flat.mp4", "64x48", {"-c:v", "libx264", "-qp", "0"});
  run_ffmpeg({"-i", (folder / "flat.mp4").string(), "-c", "copy", "-metadata:s:v", "rotate=90",
              (folder / "turned.mp4").string()});
  const auto flat = make_video_reader(folder / "flat.mp4");
  const auto turned = make_video_reader(folder / "turned.mp4");
  ASSERT_EQ(turned->format().width, 48);
  ASSERT_EQ(turned->format().height, 64);
  const std::vector<std::uint8_t> a = read_all(*flat);
  const std::vector<std::uint8_t> b = read_all(*turned);
  ASSERT_EQ(a.size(), b.size());
  const std::string shown =
      run_program({"ffmpeg", "-v", "error", "-i", (folder / "turned.mp4").string(), "-f",
                   "rawvideo", "-pix_fmt", "rgb24", "pipe:1"});
  ASSERT_EQ(b.size(), shown.size());
  const auto* const bytes = reinterpret_cast<const std::uint8_t*>(shown.data());
  EXPECT_LT(mean_difference(b, {bytes, shown.size()}), 1.0);
  EXPECT_GT(mean_difference(b, a), 20.0);
}

// ffmpeg turns such a picture within its frame.
TEST(VideoReading, OtherAnglesKeepTheSize) {
  const TempFolder folder;
  make_source(folder / "flat.mp4", "64x48", {"-c:v", "libx264", "-qp", "0"});
  run_ffmpeg({"-i", (folder / "flat.mp4").string(), "-c", "copy", "-metadata:s:v", "rotate=45",
              (folder / "turned.mp4").string()});
  EXPECT_EQ(make_video_reader(folder / "turned.mp4")->format().width, 64);
}

// Matroska files state a rate for frames that do not have it.
TEST(VideoReading, IrregularTimesAreFoundInEveryContainer) {
  const TempFolder folder;
  make_source(folder / "even.mkv", "64x48", {"-c:v", "ffv1"});
  EXPECT_TRUE(make_video_reader(folder / "even.mkv")->notes().empty());
  make_source(folder / "uneven.mkv", "64x48",
              {"-vf", "setpts='if(lt(N,5),N,5*N)/24/TB'", "-vsync", "vfr", "-c:v", "ffv1"});
  const auto uneven = make_video_reader(folder / "uneven.mkv");
  ASSERT_EQ(uneven->notes().size(), 1U);
  expect_contains(uneven->notes()[0], "uneven.mkv': the frames are not evenly spaced in time");
  EXPECT_NEAR(uneven->format().fps.value(), 9 * 24 / 45.0, 0.01);
}

TEST(VideoReading, FieldsAndHdrCauseWarnings) {
  const TempFolder folder;
  make_source(folder / "fields.mpg", "64x48",
              {"-vf", "setfield=tff", "-c:v", "mpeg2video", "-flags", "+ildct+ilme"});
  const auto fields = make_video_reader(folder / "fields.mpg");
  ASSERT_EQ(fields->notes().size(), 1U);
  expect_contains(fields->notes()[0], "fields.mpg': it is interlaced");
  const auto y4m = make_video_reader(
      folder.write("fields.y4m", "YUV4MPEG2 W2 H2 F24:1 It C444\nFRAME\n" + std::string(12, 'x')));
  ASSERT_EQ(y4m->notes().size(), 1U);
  expect_contains(y4m->notes()[0], "fields.y4m': it is interlaced");
  make_source(folder / "hdr.mkv", "64x48",
              {"-c:v", "ffv1", "-pix_fmt", "yuv444p10le", "-color_trc", "smpte2084"});
  const auto hdr = make_video_reader(folder / "hdr.mkv");
  ASSERT_EQ(hdr->notes().size(), 1U);
  expect_contains(hdr->notes()[0], "hdr.mkv': it is an HDR video");
}

// The very same picture in many formats, each with the meaning of its values in its header.
TEST(VideoReading, RangesMatricesAndDepths) {
  const TempFolder folder;
  make_source(folder / "source.mkv", "66x50", {"-c:v", "ffv1", "-pix_fmt", "gbrp"});
  const std::vector<std::uint8_t> source = read_all(folder / "source.mkv");
  ASSERT_EQ(source.size(), 10U * 66 * 50 * 3);
  const auto expect_close = [&](const char* name, const Args& args, double tolerance = 3.0) {
    Args all{"-i", (folder / "source.mkv").string()};
    all.insert(all.end(), args.begin(), args.end());
    all.push_back((folder / name).string());
    run_ffmpeg(all);
    const std::vector<std::uint8_t> found = read_all(folder / name);
    ASSERT_EQ(found.size(), source.size()) << name;
    EXPECT_LT(mean_difference(found, source), tolerance) << name;
  };
  const std::string to709 = "scale=out_color_matrix=bt709:out_range=";
  expect_close("limited709.mkv", {"-vf", to709 + "tv", "-pix_fmt", "yuv444p", "-colorspace",
                                  "bt709", "-color_range", "tv", "-c:v", "ffv1"});
  expect_close("full709.mkv", {"-vf", to709 + "pc", "-pix_fmt", "yuv444p", "-colorspace", "bt709",
                               "-color_range", "pc", "-c:v", "ffv1"});
  expect_close("ten.mkv", {"-pix_fmt", "yuv444p10le", "-c:v", "ffv1"});
  expect_close("full.y4m",
               {"-vf", "scale=out_range=pc", "-pix_fmt", "yuv444p", "-color_range", "pc"});
  expect_close("ten.y4m", {"-pix_fmt", "yuv444p10le", "-strict", "-1"});
  expect_close("422.y4m", {"-pix_fmt", "yuv422p"}, 12.0);  // sharp edges in less chroma
  expect_close("alpha.mov", {"-pix_fmt", "argb", "-c:v", "qtrle"});
}

TEST(VideoReading, EachStoredFrameIsReadOnce) {
  const TempFolder folder;
  make_source(folder / "even.mp4", "64x48", {"-c:v", "libx264", "-qp", "0"});
  make_source(
      folder / "uneven.mp4", "64x48",
      {"-vf", "setpts='if(lt(N,5),N,5*N)/24/TB'", "-vsync", "vfr", "-c:v", "libx264", "-qp", "0"});
  const auto uneven = make_video_reader(folder / "uneven.mp4");
  EXPECT_EQ(uneven->count_frames(), 10);
  EXPECT_EQ(read_all(*uneven), read_all(folder / "even.mp4"));
  ASSERT_EQ(uneven->notes().size(), 1U);
  expect_contains(uneven->notes()[0], "uneven.mp4': the frames are not evenly spaced in time");
  EXPECT_TRUE(make_video_reader(folder / "even.mp4")->notes().empty());
}

TEST(VideoReading, BeginsAtAFrameOrATime) {
  const TempFolder folder;
  make_source(folder / "a.mp4", "64x48", {"-c:v", "libx264", "-qp", "0"});
  make_source(folder / "b.y4m", "64x48", {"-pix_fmt", "yuv420p"});
  for (const char* name : {"a.mp4", "b.y4m"}) {
    const std::vector<std::uint8_t> all = read_all(folder / name);
    const std::vector<std::uint8_t> rest(all.begin() + 4 * 64 * 48 * 3, all.end());
    for (const ReadStart& start :
         {ReadStart{.frame = 4}, ReadStart{.seconds = 4.0 / 24}, ReadStart{.seconds = 3.5 / 24}}) {
      EXPECT_EQ(read_all(folder / name, start), rest) << name << " " << start.seconds;
      EXPECT_EQ(make_video_reader(folder / name, start)->count_frames(), 6) << name;
    }
    EXPECT_EQ(make_video_reader(folder / name, {.frame = 99})->count_frames(), 0) << name;
  }
}

TEST(VideoReading, NamesAreTakenLiterally) {
  const TempFolder folder;
  make_source(folder / "a.mp4", "64x48");
  const std::filesystem::path old = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  for (const char* name : {"-x.mp4", "a:b.mp4", "concat:a.mp4|a.mp4", "-", "a%03d.mp4"}) {
    std::filesystem::copy(folder / "a.mp4", folder / name);
    EXPECT_EQ(read_all(name).size(), 10U * 64 * 48 * 3) << name;
  }
  std::filesystem::current_path(old);
}

class ImageFolder : public testing::Test {
 protected:
  const TempFolder folder_;

  void put(const std::string& name, int frame_idx) {
    write_png(folder_ / name, 8, 4, test_frame(kSmall, frame_idx));
  }
  void expect_order(int num_frames) const {
    const auto reader = make_video_reader(folder_.path());
    ASSERT_EQ(reader->count_frames(), num_frames);
    std::vector<std::uint8_t> rgb(kSmall.frame_bytes());
    for (int i = 0; i < num_frames; ++i) {
      ASSERT_TRUE(reader->read_frame(rgb));
      EXPECT_EQ(rgb, test_frame(kSmall, i)) << i;
    }
  }

  static constexpr VideoFormat kSmall{8, 4, {30, 1}};
};

TEST_F(ImageFolder, IsReadInTheOrderOfItsNumbers) {
  for (int i = 0; i < 11; ++i) put(std::to_string(i + 1) + (i % 2 == 0 ? ".png" : ".PNG"), i);
  folder_.write(".hidden.png", "no image");
  folder_.write("._1.png", "no image");
  folder_.write("notes.txt", "no image");
  std::filesystem::create_directory(folder_ / "0.png");
  expect_order(11);
  EXPECT_TRUE(make_video_reader(folder_.path())->notes().empty());
  EXPECT_FALSE(make_video_reader(folder_.path())->has_rate());
}

TEST_F(ImageFolder, GapsCauseWarnings) {
  for (const int number : {8, 9, 10, 13}) put("f" + std::to_string(number) + ".png", 0);
  const auto notes = make_video_reader(folder_.path())->notes();
  ASSERT_EQ(notes.size(), 1U);
  expect_contains(notes[0], "frames are missing between 'f10.png' and 'f13.png'");
}

TEST_F(ImageFolder, EverySecondFrameIsNoGap) {
  for (const int number : {2, 4, 6}) put("f" + std::to_string(number) + ".png", 0);
  EXPECT_TRUE(make_video_reader(folder_.path())->notes().empty());
}

TEST_F(ImageFolder, OneNumberTwiceIsAnError) {
  put("1.png", 0);
  put("01.png", 1);
  expect_contains(message_of<Error>([&] { make_video_reader(folder_.path()); }),
                  "have one place in the order");
}

TEST_F(ImageFolder, MayHoldJpegsAndOneImageIsOneFrame) {
  put("1.png", 0);
  run_ffmpeg({"-i", (folder_ / "1.png").string(), "-q:v", "1", "-pix_fmt", "yuvj444p",
              (folder_ / "2.JPG").string()});
  const std::vector<std::uint8_t> all = read_all(folder_.path());
  ASSERT_EQ(all.size(), 2 * kSmall.frame_bytes());
  EXPECT_LT(mean_difference(std::span(all).last(kSmall.frame_bytes()), test_frame(kSmall, 0)), 4);
  EXPECT_EQ(read_all(folder_ / "1.png"), test_frame(kSmall, 0));
}

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

TEST(VideoReaderErrors, SayWhatAFileIs) {
  const TempFolder folder;
  const auto error_of = [&](const std::string& content) {
    const std::string message = read_error(folder.write("bad.mp4", content));
    expect_contains(message, "bad.mp4'");
    EXPECT_EQ(message.find("0x"), std::string::npos) << message;
    return message;
  };
  expect_contains(error_of(""), "the file is empty");
  expect_contains(error_of("no video"), "not a video that ffmpeg knows");
  expect_contains(error_of("<!DOCTYPE html><html>"), "a web page");
  expect_contains(error_of("version https://git-lfs.github.com/spec/v1\n"),
                  "it is a Git LFS pointer (run 'git lfs pull' in its folder)");
  expect_contains(error_of(std::string("PK\x03\x04") + std::string(60, 'x')), "zip archive");
  std::filesystem::create_symlink("nowhere.mp4", folder / "link.mp4");
  expect_contains(read_error(folder / "link.mp4"), "link to 'nowhere.mp4', which does not exist");
  expect_contains(read_error("/proc/self/fd"), "PNG or JPEG");
  ASSERT_EQ(::mkfifo((folder / "fifo.mp4").c_str(), 0600), 0);
  expect_contains(read_error(folder / "fifo.mp4"), "neither a regular file nor a folder");
}

// Half of a file: the index is missing, or the frames are.
TEST(VideoReaderErrors, VideosThatWereCutOff) {
  const TempFolder folder;
  for (const char* name : {"a.mp4", "b.mkv", "c.webm"}) {
    write_test_video(folder / name, {64, 48, {30, 1}}, 60);
    const auto size = std::filesystem::file_size(folder / name);
    std::filesystem::resize_file(folder / name, size * 2 / 3);
    const std::string message = read_error(folder / name);
    expect_contains(message, name);
    expect_contains(message, "cut off or is damaged");
    EXPECT_EQ(message.find("0x"), std::string::npos) << message;
  }
  run_ffmpeg({"-f", "lavfi", "-i", "testsrc=size=64x48", "-frames:v", "20",
              (folder / "late.mp4").string()});
  std::filesystem::resize_file(folder / "late.mp4", 2000);
  expect_contains(read_error(folder / "late.mp4"), "its index is missing");
}

TEST(VideoReaderErrors, OtherFilesWithTheNameOfAY4m) {
  const TempFolder folder;
  expect_contains(read_error(folder.write("a.y4m", "<!DOCTYPE html><html>")),
                  "a.y4m': not a y4m file: it is a web page");
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

TEST(VideoReading, Y4mInMemoryIsLikeOneOnDisk) {
  const TempFolder folder;
  write_test_video(folder / "a.y4m", {33, 17, {24000, 1001}}, 3);
  const MappedFile file(folder / "a.y4m");
  const auto stored = make_y4m_reader(file.path(), {.frame = 1});
  const auto reader = make_y4m_reader(file.bytes(), "memory.y4m", {.frame = 1});
  EXPECT_EQ(reader->format().fps, (FrameRate{24000, 1001}));
  EXPECT_EQ(reader->count_frames(), 2);
  std::vector<std::uint8_t> frame(reader->format().frame_bytes());
  std::vector<std::uint8_t> wanted(frame.size());
  while (stored->read_frame(wanted)) {
    ASSERT_TRUE(reader->read_frame(frame));
    EXPECT_EQ(frame, wanted);
  }
  EXPECT_FALSE(reader->read_frame(frame));
  const auto cut = file.bytes().first(file.bytes().size() - 1);
  expect_contains(message_of<Error>([&] { make_y4m_reader(cut, "cut.y4m", {.frame = 3}); }),
                  "'cut.y4m': truncated frame");
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
