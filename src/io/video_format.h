// What a video's frames look like.
#pragma once

#include <cstddef>

namespace mochi {

// Frames per second, as a fraction: 30/1, 24000/1001.
struct FrameRate {
  int numerator = 30;
  int denominator = 1;
};

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
