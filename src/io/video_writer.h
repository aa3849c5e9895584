// Videos, frame by frame. The output appears under its name only when finish() returns; a writer
// destroyed before that leaves nothing behind.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "io/video_format.h"

namespace mochi {

class VideoWriter {
 public:
  virtual ~VideoWriter() = default;
  VideoWriter(const VideoWriter&) = delete;
  VideoWriter& operator=(const VideoWriter&) = delete;

  // [height, width, 3] RGB.
  void write_frame(std::span<const std::uint8_t> rgb);
  void finish();

  const VideoFormat& format() const { return format_; }
  int num_frames() const { return num_frames_; }

 protected:
  VideoWriter(std::filesystem::path path, const VideoFormat& format);
  const std::filesystem::path& path() const { return path_; }

 private:
  virtual void encode_frame(std::span<const std::uint8_t> rgb) = 0;
  virtual void finish_file() = 0;

  std::filesystem::path path_;
  VideoFormat format_;
  int num_frames_ = 0;
  bool is_finished_ = false;
};

// The kind of file follows from the name: .mp4, .webm and .gif by the ffmpeg program, .y4m built
// in, a name that ends with "/" or has no extension: a folder of frame_00000.png, ... Throws Error
// at once when the output cannot be made there (no such folder, no ffmpeg, unknown extension).
std::unique_ptr<VideoWriter> make_video_writer(const std::filesystem::path& path,
                                               const VideoFormat& format);

}  // namespace mochi
