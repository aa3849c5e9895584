// Videos decoded by the ffmpeg program, which writes raw frames into a pipe.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/subprocess.h"
#include "io/ffmpeg_message.h"
#include "io/video_probe.h"
#include "io/video_readers.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

class FfmpegReader final : public VideoReader {
 public:
  FfmpegReader(const fs::path& path, const ReadStart& start, StopFn should_stop)
      : path_(path),
        start_(start),
        should_stop_(std::move(should_stop)),
        probe_(probe_video(path, should_stop_)) {
    format_ = probe_.format;
    has_rate_ = probe_.has_rate;
    pixel_aspect_ = probe_.pixel_aspect;
    if (probe_.is_irregular) {
      notes_.push_back(fmt::format(
          "'{}': the frames are not evenly spaced in time; each is read once, {:.4g} per "
          "second on average",
          path.string(), format_.fps.value()));
    }
    if (probe_.is_interlaced) note_interlaced("'" + path.string() + "'");
    if (probe_.is_hdr) {
      notes_.push_back(fmt::format(
          "'{}': it is an HDR video; its values are read as those of an ordinary one, which makes "
          "it look pale",
          path.string()));
    }
  }

  bool read_frame(std::span<std::uint8_t> rgb) override {
    check_frame_size(rgb);
    if (is_at_end_) return false;
    if (!ffmpeg_) {
      ffmpeg_.emplace(decoding_args(), SubprocessPipes{.from_stdout = true}, should_stop_);
    }
    const std::size_t num_read = ffmpeg_->read_some(std::as_writable_bytes(rgb));
    if (num_read == rgb.size()) {
      ++num_frames_;
      return true;
    }
    is_at_end_ = true;
    check_end(*ffmpeg_, num_read);
    return false;
  }

  std::int64_t count_frames() override {
    const std::vector<double> times = probe_frame_times(path_, should_stop_);
    if (start_.seconds <= 0) return std::max<std::int64_t>(0, std::ssize(times) - start_.frame);
    const auto first = std::ranges::lower_bound(times, start_.threshold_seconds());
    return times.end() - first;
  }

  std::vector<std::string> notes() const override {
    std::vector<std::string> notes = notes_;
    if (ffmpeg_ && !ffmpeg_->first_stderr_line().empty()) {
      notes.push_back(fmt::format("'{}': parts of it are damaged; ffmpeg says: {}", path_.string(),
                                  clean_ffmpeg_line(ffmpeg_->first_stderr_line())));
    }
    return notes;
  }

 private:
  std::vector<std::string> decoding_args() const {
    std::vector<std::string> args{"ffmpeg", "-v", "error"};
    if (start_.seconds > 0) {
      args.insert(args.end(), {"-ss", fmt::format("{:.6f}", start_.threshold_seconds())});
    }
    // Evenly spaced times, given to the frames in their order, keep ffmpeg from repeating or
    // leaving out frames to fill a rate. The size is that of probe_video() even if it changes
    // within the file.
    std::string filters =
        fmt::format("scale={}:{},settb=1/25,setpts=N", format_.width, format_.height);
    if (start_.frame > 0) filters = fmt::format("trim=start_frame={},{}", start_.frame, filters);
    args.insert(args.end(), {"-i", "file:" + path_.string(), "-map", "0:V:0", "-vf", filters, "-r",
                             "25", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"});
    return args;
  }

  // ffmpeg reads what it can of a file that was cut off, complains and reports success.
  void check_end(Subprocess& ffmpeg, std::size_t num_left_over) const {
    const int exit_code = ffmpeg.wait();
    const std::string line = ffmpeg.first_stderr_line();
    const std::int64_t num_before = start_.seconds > 0 ? 0 : start_.frame;
    const bool is_short = probe_.num_stored > 0 && start_.seconds <= 0 &&
                          num_before + num_frames_ < probe_.num_stored;
    if (says_cut_off(line) || (is_short && !line.empty())) {
      const std::string whole =
          probe_.num_stored > 0 ? fmt::format(" of {}", probe_.num_stored) : "";
      fail("cannot read '{}': it was cut off or is damaged after frame {}{}", path_.string(),
           num_before + num_frames_, whole);
    }
    if (exit_code != 0 || num_left_over != 0) {
      fail("cannot read '{}': ffmpeg {}", path_.string(), describe_ffmpeg_end(ffmpeg));
    }
  }

  fs::path path_;
  ReadStart start_;
  StopFn should_stop_;
  VideoProbe probe_;
  std::optional<Subprocess> ffmpeg_;
  std::int64_t num_frames_ = 0;
  bool is_at_end_ = false;
};

}  // namespace

std::unique_ptr<VideoReader> make_ffmpeg_reader(const fs::path& path, const ReadStart& start,
                                                StopFn should_stop) {
  if (!find_program("ffmpeg") || !find_program("ffprobe")) {
    fail(
        "cannot read '{}': the programs ffmpeg and ffprobe were not found; install them (Debian, "
        "Ubuntu: apt install ffmpeg), or give a .y4m file or PNG or JPEG files",
        path.string());
  }
  return std::make_unique<FfmpegReader>(path, start, std::move(should_stop));
}

}  // namespace mochi
