// Videos encoded by the ffmpeg program, which reads raw frames from a pipe.
#include <fmt/core.h>

#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/subprocess.h"
#include "io/video_writers.h"

namespace mochi {
namespace {

using Args = std::vector<std::string>;

// The matrix must be applied by the scaler and written into the stream's tags as well: tags alone
// would make players decode with a matrix the pixels were not made with.
const char* const kToBt709 = "scale=in_range=full:out_range=tv:out_color_matrix=bt709";
const Args kBt709Tags{"-colorspace", "bt709", "-color_primaries", "bt709",
                      "-color_trc",  "bt709", "-color_range",     "tv"};

Args encoder_args(const std::string& extension) {
  if (extension == ".gif") {
    // A palette for every frame: better colours than one for all, and no frame has to be held.
    return {"-vf",
            "split[a][b];[a]palettegen=stats_mode=single[palette];[b][palette]paletteuse=new=1",
            "-loop",
            "0",
            "-f",
            "gif"};
  }
  Args args{"-vf", kToBt709, "-pix_fmt", "yuv420p"};
  args.insert(args.end(), kBt709Tags.begin(), kBt709Tags.end());
  const Args codec = extension == ".webm"
                         ? Args{"-c:v", "libvpx-vp9", "-crf", "24",      "-b:v", "0",  "-deadline",
                                "good", "-cpu-used",  "4",    "-row-mt", "1",    "-f", "webm"}
                         : Args{"-c:v", "libx264",   "-preset",    "medium", "-crf",
                                "18",   "-movflags", "+faststart", "-f",     "mp4"};
  args.insert(args.end(), codec.begin(), codec.end());
  return args;
}

Args ffmpeg_args(const std::string& extension, const VideoFormat& format,
                 const std::filesystem::path& output) {
  Args args{"ffmpeg", "-hide_banner", "-loglevel", "error",
            // Else a video that a full disk cut short counts as a success.
            "-xerror", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s",
            fmt::format("{}x{}", format.width, format.height), "-framerate",
            fmt::format("{}/{}", format.fps.numerator, format.fps.denominator), "-i", "pipe:0",
            "-an"};
  const Args encoder = encoder_args(extension);
  args.insert(args.end(), encoder.begin(), encoder.end());
  // "file:" keeps a colon in the name from being taken for a protocol.
  args.push_back("file:" + output.string());
  return args;
}

void check_can_encode(const std::filesystem::path& path, const VideoFormat& format) {
  if (!find_program("ffmpeg")) {
    fail(
        "cannot write '{}': the program ffmpeg was not found; install it (Debian, Ubuntu: apt "
        "install ffmpeg), or write a .y4m file or a folder of PNG files, which work without it",
        path.string());
  }
  if (path.extension() == ".mp4" && (format.width % 2 != 0 || format.height % 2 != 0)) {
    fail("cannot write '{}': .mp4 wants an even width and height, found {}x{}", path.string(),
         format.width, format.height);
  }
}

class FfmpegWriter final : public VideoWriter {
 public:
  FfmpegWriter(const std::filesystem::path& path, const VideoFormat& format)
      : VideoWriter(path, format),
        target_(path, SpecialFile::kRefuse),
        ffmpeg_(ffmpeg_args(path.extension().string(), format, target_.temp_path()),
                {.to_stdin = true}) {}

 private:
  void encode_frame(std::span<const std::uint8_t> rgb) override {
    try {
      ffmpeg_.write_all(std::as_bytes(rgb));
    } catch (const Error& error) {
      fail("cannot write '{}': {}", path().string(), error.what());
    }
  }

  void finish_file() override {
    const int exit_code = ffmpeg_.wait();
    if (exit_code != 0) {
      fail("cannot write '{}': ffmpeg failed (exit code {}): {}", path().string(), exit_code,
           ffmpeg_.first_stderr_line());
    }
    target_.commit();
  }

  // In this order: the child is dead before what it wrote is removed.
  AtomicFile target_;
  Subprocess ffmpeg_;
};

}  // namespace

std::unique_ptr<VideoWriter> make_ffmpeg_writer(const std::filesystem::path& path,
                                                const VideoFormat& format) {
  check_can_encode(path, format);
  return std::make_unique<FfmpegWriter>(path, format);
}

}  // namespace mochi
