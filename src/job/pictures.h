// Pictures that stand for a video: a thumbnail, and a sheet of its frames.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "job/contact_sheet.h"
#include "mochi/mochi.h"

namespace mochi::job {

struct PictureFiles {
  std::filesystem::path thumbnail;    // a JPEG of the middle frame, at most 512 pixels per side
  std::filesystem::path spritesheet;  // a JPEG of at most 16 evenly spaced frames, row by row, at
                                      // most 4 per row; each at most 256 pixels wide and 512 high
};

// Takes the frames of one video, from an observer's on_frame(), and writes the files when the last
// one has come. Frames are scaled down as they come, so that memory does not grow with the video.
// A failure causes a warning, never an exception: a video does without its pictures.
class Pictures {
 public:
  using WarningFn = std::function<void(std::string_view text)>;

  Pictures(PictureFiles files, WarningFn on_warning);

  void add(std::span<const std::uint8_t> rgb, std::int64_t frame_idx, const VideoSize& size);

 private:
  void begin(const VideoSize& size);
  void take(std::span<const std::uint8_t> rgb, std::int64_t frame_idx, FrameSize from);
  void write() const;

  PictureFiles files_;
  WarningFn on_warning_;
  bool has_failed_ = false;
  FrameSize thumbnail_size_, cell_size_;
  std::vector<std::uint8_t> thumbnail_;
  std::vector<std::int64_t> shown_;  // the frames of the sheet
  ContactSheet sheet_;
};

}  // namespace mochi::job
