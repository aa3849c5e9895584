#include "io/video_writer.h"

#include <utility>

#include "base/error.h"
#include "io/video_writers.h"

namespace mochi {

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

std::unique_ptr<VideoWriter> make_video_writer(const std::filesystem::path& path,
                                               const VideoFormat& format) {
  const std::string extension = path.extension().string();
  if (extension.empty()) return make_png_folder_writer(path, format);
  if (extension == ".y4m") return make_y4m_writer(path, format);
  if (extension == ".mp4" || extension == ".webm" || extension == ".gif") {
    return make_ffmpeg_writer(path, format);
  }
  fail("cannot write '{}': wanted .mp4, .webm, .gif, .y4m or a folder for PNG files, found '{}'",
       path.string(), extension);
}

}  // namespace mochi
