// Videos, frame by frame. The output appears under its name only when finish() returns; a writer
// destroyed before that leaves no file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "base/stop.h"
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
  // A warning about this output, in one line; usually empty.
  const std::string& note() const { return note_; }

 protected:
  VideoWriter(std::filesystem::path path, const VideoFormat& format);
  const std::filesystem::path& path() const { return path_; }
  void set_note(std::string note) { note_ = std::move(note); }

 private:
  virtual void encode_frame(std::span<const std::uint8_t> rgb) = 0;
  virtual void finish_file() = 0;

  std::filesystem::path path_;
  VideoFormat format_;
  std::string note_;
  int num_frames_ = 0;
  bool is_finished_ = false;
};

// The ending, in upper or lower case, decides the kind of file: .mp4, .mov, .mkv, .webm, .gif and
// .webp are written by the ffmpeg program, .y4m is built in, and a name that ends with "/" or has
// no ending is a folder of frame_00000.png, ... Throws Error at once if the output cannot be made:
// the folder or ffmpeg is missing, or the ending is unknown. Half-written files of this output that
// killed runs left are removed. ffmpeg's encoder is tried on two frames of this size and rate; if
// it fails, another one takes its place, and note() names it. Waiting for ffmpeg, here and in the
// writer, ends with Cancelled when should_stop says so.
std::unique_ptr<VideoWriter> make_video_writer(const std::filesystem::path& path,
                                               const VideoFormat& format, StopFn should_stop = {});

// Checks of outputs before the work. Many videos of one kind, size and rate, as in a sweep, cost
// one trial of the encoder. Of several outputs that another encoder writes, the first one has the
// note.
class VideoOutputChecks {
 public:
  // Throws Error where make_video_writer() would; the writer's note when it is new, else nothing.
  std::string check(const std::filesystem::path& path, const VideoFormat& format,
                    const StopFn& should_stop = {});

 private:
  std::set<std::string> tried_;
  std::set<std::string> noted_;  // endings
};

}  // namespace mochi
