// Properties of a video file, as ffprobe reports them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/stop.h"
#include "io/video_format.h"

namespace mochi {

struct VideoProbe {
  VideoFormat format;  // as displayed, after the file's rotation
  bool has_rate = true;
  bool is_irregular = false;    // the frames' times are not evenly spaced
  double pixel_aspect = 1;      // width / height of a displayed pixel
  std::int64_t num_stored = 0;  // frames by the file's own index; 0: it has none
  bool is_interlaced = false;   // a frame holds two fields of different times
  bool is_hdr = false;          // its colours have the curve of HDR10 or HLG
};

// Throws Error, naming the file and what it is, if it is no video that ffmpeg reads.
VideoProbe probe_video(const std::filesystem::path& path, const StopFn& should_stop);

// The times of the frames in seconds from the first one on, in their order. The file is read, but
// no frame is decoded.
std::vector<double> probe_frame_times(const std::filesystem::path& path, const StopFn& should_stop);

}  // namespace mochi
