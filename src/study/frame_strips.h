// Pictures of chosen frames of two videos and of their difference.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/video_quality.h"

namespace mochi::study {

using Frames = std::vector<std::vector<std::uint8_t>>;  // RGB bytes [height, width, 3] of each

// PNGs of the same frames of both videos.
struct FrameStrips {
  std::vector<int> frame_idxs;
  std::vector<std::string> dense, sparse, difference;
  int gain = 1;  // the differences are multiplied by it
};

// Returns up to `max_count` frames at equal distances, of which the nearest one is replaced by the
// frame that has the lowest PSNR.
std::vector<int> choose_frames(std::span<const FrameQuality> frames, int max_count);

// Returns the largest power of two, up to 64, that leaves all but a thousandth of the bytes in
// range. `counts` has the number of bytes with each difference.
int choose_gain(std::span<const std::int64_t, 256> counts);

FrameStrips make_strips(const Frames& dense, const Frames& sparse, std::vector<int> frame_idxs,
                        int width, int height);

}  // namespace mochi::study
