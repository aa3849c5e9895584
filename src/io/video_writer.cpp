#include "io/video_writer.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "io/file_name.h"
#include "io/video_writers.h"

namespace mochi {

namespace fs = std::filesystem;

VideoWriter::VideoWriter(std::filesystem::path path, const VideoFormat& format)
    : path_(std::move(path)), format_(format) {
  if (format.width < 1 || format.height < 1) {
    fail("cannot write '{}': wanted a frame size of at least 1x1, found {}x{}", path_.string(),
         format.width, format.height);
  }
  if (format.fps.numerator < 1 || format.fps.denominator < 1) {
    fail("cannot write '{}': wanted a positive frame rate, found {}/{}", path_.string(),
         format.fps.numerator, format.fps.denominator);
  }
}

void VideoWriter::write_frame(std::span<const std::uint8_t> rgb) {
  if (is_finished_) fail("cannot write a frame to '{}': already finished", path_.string());
  if (rgb.size() != format_.frame_bytes()) {
    fail("cannot write a frame to '{}': wanted {} bytes for {}x{} pixels, found {}", path_.string(),
         format_.frame_bytes(), format_.width, format_.height, rgb.size());
  }
  encode_frame(rgb);
  ++num_frames_;
}

void VideoWriter::finish() {
  if (is_finished_) fail("'{}' is already finished", path_.string());
  if (num_frames_ == 0) fail("cannot write '{}': no frame was given", path_.string());
  finish_file();
  is_finished_ = true;
}

namespace {

void check_name(const fs::path& path) {
  if (path == "-") {
    fail(
        "cannot write to '-': a video goes into a file or folder ('./-' is a folder of that name)");
  }
  if (is_video_ending(lower_extension("x" + path.filename().string())) &&
      path.extension().empty()) {
    fail("cannot write '{}': the name has nothing before its ending", path.string());
  }
}

}  // namespace

std::unique_ptr<VideoWriter> make_video_writer(const fs::path& path, const VideoFormat& format,
                                               StopFn should_stop) {
  check_name(path);
  const std::string ending = lower_extension(path);
  if (ending.empty()) return make_png_folder_writer(path, format);
  if (ending == ".y4m") return make_y4m_writer(path, format);
  if (const std::optional<VideoContainer> container = find_video_container(ending)) {
    return make_ffmpeg_writer(path, format, *container, std::move(should_stop));
  }
  fail("cannot write '{}': wanted {}, or no ending for a folder of PNG files, found '{}'",
       path.string(), describe_video_endings(), path.extension().string());
}

std::string VideoOutputChecks::check(const fs::path& path, const VideoFormat& format,
                                     const StopFn& should_stop) {
  const std::string kind = fmt::format("{} {}x{} {}", lower_extension(path), format.width,
                                       format.height, format_frame_rate(format.fps));
  if (find_video_container(lower_extension(path)) && tried_.contains(kind)) {
    const AtomicFile probe(path);
    return "";
  }
  std::string note = make_video_writer(path, format, should_stop)->note();
  tried_.insert(kind);
  const bool is_news = !note.empty() && noted_.insert(lower_extension(path)).second;
  if (!is_news) note.clear();
  return note;
}

}  // namespace mochi
