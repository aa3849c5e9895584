// Videos encoded by the ffmpeg program, which reads raw frames from a pipe.
#include <fmt/format.h>

#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/subprocess.h"
#include "io/ffmpeg_message.h"
#include "io/video_writers.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

void check_can_encode(const fs::path& path, const VideoFormat& format,
                      const VideoContainer& container) {
  if (!find_program("ffmpeg")) {
    fail(
        "cannot write '{}': the program ffmpeg was not found; install it (Debian, Ubuntu: apt "
        "install ffmpeg), or write a .y4m file or a folder of PNG files, which work without it",
        path.string());
  }
  if (container.needs_even_size && (format.width % 2 != 0 || format.height % 2 != 0)) {
    fail("cannot write '{}': {} wants an even width and height, found {}x{}", path.string(),
         container.ending, format.width, format.height);
  }
  if (format.fps.value() > container.max_rate.value()) {
    fail("cannot write '{}': {} can have at most {} frames per second, wanted {}", path.string(),
         container.ending, format_frame_rate(container.max_rate), format_frame_rate(format.fps));
  }
}

bool is_written(const fs::path& path) {
  std::error_code error;
  return fs::file_size(path, error) > 0 && !error;
}

// The name that the user gave instead of the temporary one.
std::string with_shown_name(std::string text, const fs::path& temp, const fs::path& shown) {
  const std::size_t at = text.find(temp.string());
  if (at != std::string::npos) text.replace(at, temp.string().size(), shown.string());
  return text;
}

// Encodes two black frames into `target`; the reason if that fails, else nothing.
std::string try_encoder(const VideoContainer& container, const VideoEncoder& encoder,
                        const VideoFormat& format, const fs::path& target,
                        const StopFn& should_stop) {
  Subprocess ffmpeg(encoding_args(container, encoder, format, target.string()), {.to_stdin = true},
                    should_stop);
  const std::vector<std::byte> black(format.frame_bytes());
  try {
    for (int i = 0; i < 2; ++i) ffmpeg.write_all(black);
  } catch (const Cancelled&) {
    throw;
  } catch (const Error&) {
    if (ffmpeg.wait() == 0) throw;  // else ffmpeg ended early, and its last words say more
    return describe_ffmpeg_end(ffmpeg);
  }
  if (ffmpeg.wait() != 0) return describe_ffmpeg_end(ffmpeg);
  return is_written(target) ? "" : "wrote nothing";
}

struct EncoderChoice {
  VideoEncoder encoder;
  std::string note;
};

// The first encoder that works in an encoding of two frames, which `target` holds afterwards.
EncoderChoice choose_encoder(const fs::path& path, const VideoContainer& container,
                             const VideoFormat& format, const fs::path& target,
                             const StopFn& should_stop) {
  std::vector<std::string> reasons;
  for (const VideoEncoder& encoder : container.encoders) {
    std::string reason =
        with_shown_name(try_encoder(container, encoder, format, target, should_stop), target, path);
    if (reason.empty()) {
      const std::string_view preferred = container.encoders.front().name;
      return {encoder, encoder.name == preferred
                           ? ""
                           : fmt::format("'{}' is encoded by {}, because ffmpeg with {} {}",
                                         path.string(), encoder.name, preferred, reasons.front())};
    }
    reasons.push_back(std::move(reason));
  }
  std::string text;
  const bool is_one_reason = std::set(reasons.begin(), reasons.end()).size() == 1;
  for (std::size_t i = 0; i < reasons.size() && !is_one_reason; ++i) {
    text +=
        fmt::format("{}with {} it {}", i == 0 ? "" : "; ", container.encoders[i].name, reasons[i]);
  }
  fail("cannot write '{}': ffmpeg {} (.y4m files and folders of PNG files work without it)",
       path.string(), is_one_reason ? reasons.front() : "cannot encode it: " + text);
}

// How many packets the video stream of a file has; -1 if that cannot be found out.
long count_packets(const fs::path& path, const StopFn& should_stop) {
  if (!find_program("ffprobe")) return -1;
  try {
    return std::stol(
        run_program({"ffprobe", "-v", "error", "-count_packets", "-select_streams", "v:0",
                     "-show_entries", "stream=nb_read_packets", "-of",
                     "default=nokey=1:noprint_wrappers=1", "-i", "file:" + path.string()},
                    should_stop));
  } catch (const Cancelled&) {
    throw;
  } catch (const std::exception&) {  // ffprobe failed or printed no number
    return -1;
  }
}

class FfmpegWriter final : public VideoWriter {
 public:
  FfmpegWriter(const fs::path& path, const VideoFormat& format, const VideoContainer& container,
               StopFn should_stop)
      : VideoWriter(path, format),
        has_packet_per_frame_(container.has_packet_per_frame),
        should_stop_(std::move(should_stop)),
        target_(path, SpecialFile::kRefuse),
        choice_(choose_encoder(path, container, format, target_.temp_path(), should_stop_)),
        ffmpeg_(encoding_args(container, choice_.encoder, format, target_.temp_path().string()),
                {.to_stdin = true}, should_stop_) {
    set_note(choice_.note);
  }

 private:
  void encode_frame(std::span<const std::uint8_t> rgb) override {
    try {
      ffmpeg_.write_all(std::as_bytes(rgb));
    } catch (const Cancelled&) {
      throw;
    } catch (const Error&) {
      if (ffmpeg_.wait() == 0) throw;  // else ffmpeg ended early, and its last words say more
      fail_end();
    }
  }

  void finish_file() override {
    if (ffmpeg_.wait() != 0) fail_end();
    check_result();
    target_.commit();
  }

  [[noreturn]] void fail_end() const {
    fail("cannot write '{}': ffmpeg {}", path().string(),
         with_shown_name(describe_ffmpeg_end(ffmpeg_), target_.temp_path(), path()));
  }

  // An ffmpeg that is only a wrapper, or was ended from outside, may claim success all the same.
  void check_result() const {
    if (!is_written(target_.temp_path())) {
      fail("cannot write '{}': ffmpeg wrote nothing", path().string());
    }
    const long num_packets =
        has_packet_per_frame_ ? count_packets(target_.temp_path(), should_stop_) : -1;
    if (num_packets >= 0 && num_packets != num_frames()) {
      fail("cannot write '{}': ffmpeg was given {} frames and wrote {}", path().string(),
           num_frames(), num_packets);
    }
  }

  bool has_packet_per_frame_;
  StopFn should_stop_;
  // In this order: the child is dead before what it wrote is removed.
  AtomicFile target_;
  EncoderChoice choice_;
  Subprocess ffmpeg_;
};

}  // namespace

std::unique_ptr<VideoWriter> make_ffmpeg_writer(const fs::path& path, const VideoFormat& format,
                                                const VideoContainer& container,
                                                StopFn should_stop) {
  check_can_encode(path, format, container);
  return std::make_unique<FfmpegWriter>(path, format, container, std::move(should_stop));
}

}  // namespace mochi
