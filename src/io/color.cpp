#include "io/color.h"

#include <algorithm>
#include <cmath>

namespace mochi {
namespace {

// BT.601 luma weights of red and blue; green has the rest.
constexpr float kRed = 0.299F;
constexpr float kBlue = 0.114F;
constexpr float kGreen = 1.0F - kRed - kBlue;

constexpr float kFull = 255.0F;
constexpr float kLumaRange = 219.0F;
constexpr float kChromaRange = 224.0F;
constexpr float kLumaBlack = 16.0F;
constexpr float kChromaZero = 128.0F;

std::uint8_t to_byte(float value) {
  return static_cast<std::uint8_t>(std::lround(std::clamp(value, 0.0F, kFull)));
}

}  // namespace

std::array<std::uint8_t, 3> rgb_to_ycbcr(std::array<float, 3> rgb) {
  const auto [red, green, blue] = rgb;
  const float luma = kRed * red + kGreen * green + kBlue * blue;
  const float cb = (blue - luma) / (2.0F * (1.0F - kBlue));
  const float cr = (red - luma) / (2.0F * (1.0F - kRed));
  return {to_byte(kLumaBlack + luma * (kLumaRange / kFull)),
          to_byte(kChromaZero + cb * (kChromaRange / kFull)),
          to_byte(kChromaZero + cr * (kChromaRange / kFull))};
}

std::array<std::uint8_t, 3> ycbcr_to_rgb(std::array<std::uint8_t, 3> ycbcr, ColorRange range) {
  const bool is_full = range == ColorRange::kFull;
  const float black = is_full ? 0.0F : kLumaBlack;
  const float luma_gain = is_full ? 1.0F : kFull / kLumaRange;
  const float chroma_gain = is_full ? 1.0F : kFull / kChromaRange;
  const float luma = (static_cast<float>(ycbcr[0]) - black) * luma_gain;
  const float cb = (static_cast<float>(ycbcr[1]) - kChromaZero) * chroma_gain;
  const float cr = (static_cast<float>(ycbcr[2]) - kChromaZero) * chroma_gain;
  const float red = luma + 2.0F * (1.0F - kRed) * cr;
  const float blue = luma + 2.0F * (1.0F - kBlue) * cb;
  const float green = (luma - kRed * red - kBlue * blue) / kGreen;
  return {to_byte(red), to_byte(green), to_byte(blue)};
}

}  // namespace mochi
