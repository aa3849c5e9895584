// RGB and the Y'CbCr of built-in video files: BT.601.
#pragma once

#include <array>
#include <cstdint>

namespace mochi {

enum class ColorRange : std::uint8_t {
  kLimited,  // Y 16..235, Cb and Cr 16..240
  kFull,     // each 0..255
};

// YUV4MPEG2 cannot state its matrix; its readers assume BT.601.
std::array<std::uint8_t, 3> rgb_to_ycbcr(std::array<float, 3> rgb);  // limited; each 0..255
std::array<std::uint8_t, 3> ycbcr_to_rgb(std::array<std::uint8_t, 3> ycbcr,
                                         ColorRange range = ColorRange::kLimited);

}  // namespace mochi
