// A small video whose frames all differ, smooth enough for lossy codecs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "io/video_writer.h"

namespace mochi {

inline std::vector<std::uint8_t> test_frame(const VideoFormat& format, int frame_idx) {
  std::vector<std::uint8_t> rgb;
  for (int y = 0; y < format.height; ++y) {
    for (int x = 0; x < format.width; ++x) {
      rgb.push_back(static_cast<std::uint8_t>(40 + 160 * x / format.width));
      rgb.push_back(static_cast<std::uint8_t>(200 - 120 * y / format.height));
      rgb.push_back(static_cast<std::uint8_t>(30 + 20 * frame_idx));
    }
  }
  return rgb;
}

inline void write_test_video(const std::filesystem::path& path, const VideoFormat& format,
                             int num_frames) {
  const auto writer = make_video_writer(path, format);
  for (int i = 0; i < num_frames; ++i) writer->write_frame(test_frame(format, i));
  writer->finish();
}

inline double mean_difference(std::span<const std::uint8_t> left,
                              std::span<const std::uint8_t> right) {
  double sum = 0;
  for (std::size_t i = 0; i < left.size(); ++i) sum += std::abs(left[i] - right[i]);
  return sum / static_cast<double>(left.size());
}

}  // namespace mochi
