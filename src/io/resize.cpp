#include "io/resize.h"

#include <stb/stb_image_resize.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "io/image.h"

namespace mochi {
namespace {

// Mitchell's filter when it gets smaller, Catmull and Rom's when it gets larger.
std::vector<std::uint8_t> resample(std::span<const std::uint8_t> rgb, FrameSize from,
                                   FrameSize to) {
  if (from == to) return {rgb.begin(), rgb.end()};
  std::vector<std::uint8_t> result(static_cast<std::size_t>(to.width) *
                                   static_cast<std::size_t>(to.height) * kRgbChannels);
  const int is_done = stbir_resize_uint8_generic(
      rgb.data(), from.width, from.height, 0, result.data(), to.width, to.height, 0, kRgbChannels,
      STBIR_ALPHA_CHANNEL_NONE, 0, STBIR_EDGE_CLAMP, STBIR_FILTER_DEFAULT, STBIR_COLORSPACE_LINEAR,
      nullptr);
  if (is_done == 0) throw OutOfMemory("out of memory while resizing a frame");
  return result;
}

// The size that a picture takes before it is cut or framed, to cover or to fit into `to`.
FrameSize scaled_size(FrameSize from, double pixel_aspect, FrameSize to, Fit fit) {
  if (fit == Fit::kStretch) return to;
  const double shown_width = from.width * pixel_aspect;
  const double x_scale = to.width / shown_width;
  const double y_scale = static_cast<double>(to.height) / from.height;
  const double scale = fit == Fit::kCrop ? std::max(x_scale, y_scale) : std::min(x_scale, y_scale);
  const auto side = [&](double length) {
    return std::max(1, static_cast<int>(std::lround(length * scale)));
  };
  return {side(shown_width), side(from.height)};
}

// Copies the middle of a picture into the middle of a black one.
std::vector<std::uint8_t> center(const std::vector<std::uint8_t>& rgb, FrameSize from,
                                 FrameSize to) {
  if (from == to) return rgb;
  const int width = std::min(from.width, to.width);
  const int height = std::min(from.height, to.height);
  std::vector<std::uint8_t> result(static_cast<std::size_t>(to.width) *
                                   static_cast<std::size_t>(to.height) * kRgbChannels);
  const auto offset = [](FrameSize size, int part_width, int part_height, int y) {
    const int row = (size.height - part_height) / 2 + y;
    return (static_cast<std::ptrdiff_t>(row) * size.width + (size.width - part_width) / 2) *
           kRgbChannels;
  };
  for (int y = 0; y < height; ++y) {
    std::copy_n(rgb.begin() + offset(from, width, height, y),
                static_cast<std::ptrdiff_t>(width) * kRgbChannels,
                result.begin() + offset(to, width, height, y));
  }
  return result;
}

}  // namespace

std::optional<Fit> parse_fit(std::string_view name) {
  if (name == "crop") return Fit::kCrop;
  if (name == "pad") return Fit::kPad;
  if (name == "stretch") return Fit::kStretch;
  return std::nullopt;
}

std::vector<std::uint8_t> resize_frame(std::span<const std::uint8_t> rgb, FrameSize from,
                                       double pixel_aspect, FrameSize to, Fit fit) {
  const FrameSize scaled = scaled_size(from, pixel_aspect, to, fit);
  return center(resample(rgb, from, scaled), scaled, to);
}

}  // namespace mochi
