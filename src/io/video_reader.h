// Frames of an existing video, one after the other.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

#include "io/video_format.h"

namespace mochi {

class VideoReader {
 public:
  virtual ~VideoReader() = default;
  VideoReader(const VideoReader&) = delete;
  VideoReader& operator=(const VideoReader&) = delete;

  const VideoFormat& format() const { return format_; }
  // Fills [height, width, 3] RGB; false after the last frame.
  virtual bool read_frame(std::span<std::uint8_t> rgb) = 0;

 protected:
  VideoReader() = default;
  void check_frame_size(std::span<const std::uint8_t> rgb) const;

  VideoFormat format_;
};

// .y4m (8 bits, 4:2:0 or 4:4:4) and folders of PNG files are built in; anything else goes through
// the ffmpeg and ffprobe programs.
std::unique_ptr<VideoReader> make_video_reader(const std::filesystem::path& path);

}  // namespace mochi
