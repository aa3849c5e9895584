// Frames of an existing video, one after the other, upright as players show them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/stop.h"
#include "io/video_format.h"

namespace mochi {

// The start of reading: a frame, counted from 0, or a time.
struct ReadStart {
  std::int64_t frame = 0;
  double seconds = 0;  // if above 0, `frame` is not used

  // Slightly before the time, by less than the precision of files' clocks, so that "1s" is the
  // frame at 1 s.
  double threshold_seconds() const { return seconds > kTolerance ? seconds - kTolerance : 0; }

  static constexpr double kTolerance = 0.0005;
};

class VideoReader {
 public:
  virtual ~VideoReader() = default;
  VideoReader(const VideoReader&) = delete;
  VideoReader& operator=(const VideoReader&) = delete;

  const VideoFormat& format() const { return format_; }
  // Images have no frame rate; format() then has the default.
  bool has_rate() const { return has_rate_; }
  // Width of a pixel over its height.
  double pixel_aspect() const { return pixel_aspect_; }

  // Fills [height, width, 3] RGB; false after the last frame.
  virtual bool read_frame(std::span<std::uint8_t> rgb) = 0;
  // Returns the number of frames from the start on, before any is read. Decodes none of them.
  virtual std::int64_t count_frames() = 0;
  // Warnings about the frames read so far, one line each.
  virtual std::vector<std::string> notes() const { return notes_; }

 protected:
  VideoReader() = default;
  void check_frame_size(std::span<const std::uint8_t> rgb) const;
  // `source` is the file's name in quotes.
  void note_interlaced(const std::string& source);

  VideoFormat format_;
  bool has_rate_ = true;
  double pixel_aspect_ = 1;
  std::vector<std::string> notes_;
};

// Built in are .y4m files (8 bits, 4:2:0 or 4:4:4), PNG and JPEG files, and folders of these in the
// order of their numbers; anything else goes through the ffmpeg and ffprobe programs. Each stored
// frame is read once, also where their times are irregular. Throws Error naming the file. Waiting
// for ffmpeg, here and in the reader, ends with Cancelled when should_stop says so.
std::unique_ptr<VideoReader> make_video_reader(const std::filesystem::path& path,
                                               const ReadStart& start = {},
                                               StopFn should_stop = {});

}  // namespace mochi
