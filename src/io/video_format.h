// The size and rate of a video's frames.
#pragma once

#include <cstddef>

#include "io/frame_rate.h"

namespace mochi {

struct VideoFormat {
  int width = 0;
  int height = 0;
  FrameRate fps;

  // Bytes of one frame, [height, width, 3] RGB.
  std::size_t frame_bytes() const {
    return static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3;
  }
};

}  // namespace mochi
