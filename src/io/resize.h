// Resampling of RGB frames.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace mochi {

// How a picture of another shape is brought to a wanted size.
enum class Fit : std::uint8_t {
  kCrop,     // covers it; what sticks out is cut off on both sides alike
  kPad,      // fits into it; the rest is black
  kStretch,  // takes its shape
};

std::optional<Fit> parse_fit(std::string_view name);  // "crop", "pad", "stretch"

struct FrameSize {
  int width = 0;
  int height = 0;

  bool operator==(const FrameSize&) const = default;
};

// `rgb` is [from.height, from.width, 3], the result [to.height, to.width, 3]. `pixel_aspect` is the
// width of a pixel of `rgb` over its height; those of the result are square.
std::vector<std::uint8_t> resize_frame(std::span<const std::uint8_t> rgb, FrameSize from,
                                       double pixel_aspect, FrameSize to, Fit fit);

}  // namespace mochi
