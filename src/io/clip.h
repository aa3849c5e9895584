// A part of a video in memory, with the size that is wanted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/resize.h"
#include "io/video_reader.h"

namespace mochi {

// "48": a frame, counted from 0; "2s", "2.5s": a time in seconds. Nothing if the text is neither.
std::optional<ReadStart> parse_read_start(std::string_view text);

struct ClipOptions {
  ReadStart start = {};
  std::optional<int> num_frames = {};  // without it all frames from the start on
  std::optional<FrameSize> size = {};  // without it the video's own
  Fit fit = Fit::kCrop;
  // Called with the clip's size and number of frames before a frame is read. What it throws ends
  // the reading.
  std::function<void(FrameSize size, int num_frames)> check_size = {};
  StopFn should_stop = {};  // asked at every frame, and while ffmpeg keeps the caller waiting
};

struct Clip {
  FrameSize size;
  int num_frames = 0;
  std::optional<FrameRate> rate;   // the video's; images have none
  std::vector<std::uint8_t> rgb;   // [num_frames, height, width, 3]
  std::vector<std::string> notes;  // warnings for the user, one line each
};

// Throws Error naming the file. If the file states a size or a number of frames that check_size()
// refuses or that memory cannot hold, it throws before frames are read.
Clip read_clip(const std::filesystem::path& path, const ClipOptions& options);

}  // namespace mochi
