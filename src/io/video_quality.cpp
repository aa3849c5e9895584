#include "io/video_quality.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "base/error.h"
#include "io/video_reader.h"

namespace mochi {
namespace {

constexpr int kWindow = 11;
constexpr double kSigma = 1.5;
constexpr double kPeak = 255;
constexpr double kC1 = (0.01 * kPeak) * (0.01 * kPeak);
constexpr double kC2 = (0.03 * kPeak) * (0.03 * kPeak);

using Plane = std::vector<double>;  // [height, width]

struct Size {
  int width, height;
};

// `size` weights that add up to 1.
std::vector<double> gaussian(int size) {
  std::vector<double> weights;
  double sum = 0;
  for (int i = 0; i < size; ++i) {
    const double x = i - (size - 1) / 2.0;
    weights.push_back(std::exp(-x * x / (2 * kSigma * kSigma)));
    sum += weights.back();
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

Plane luma(std::span<const std::uint8_t> rgb) {
  Plane plane(rgb.size() / 3);
  for (std::size_t i = 0; i < plane.size(); ++i) {
    plane[i] = 0.299 * rgb[3 * i] + 0.587 * rgb[3 * i + 1] + 0.114 * rgb[3 * i + 2];
  }
  return plane;
}

// Weighted means over all windows inside: [height − window + 1, width − window + 1].
Plane blur(const Plane& plane, Size size) {
  const std::vector<double> across = gaussian(std::min(kWindow, size.width));
  const std::vector<double> down = gaussian(std::min(kWindow, size.height));
  const auto out_width = static_cast<std::size_t>(size.width) - across.size() + 1;
  const auto out_height = static_cast<std::size_t>(size.height) - down.size() + 1;
  const auto in_width = static_cast<std::size_t>(size.width);
  Plane rows(out_width * static_cast<std::size_t>(size.height));
  for (std::size_t y = 0; y < static_cast<std::size_t>(size.height); ++y) {
    for (std::size_t i = 0; i < across.size(); ++i) {
      const double* in = plane.data() + y * in_width + i;
      double* out = rows.data() + y * out_width;
      for (std::size_t x = 0; x < out_width; ++x) out[x] += across[i] * in[x];
    }
  }
  Plane result(out_width * out_height);
  for (std::size_t y = 0; y < out_height; ++y) {
    for (std::size_t i = 0; i < down.size(); ++i) {
      const double* in = rows.data() + (y + i) * out_width;
      double* out = result.data() + y * out_width;
      for (std::size_t x = 0; x < out_width; ++x) out[x] += down[i] * in[x];
    }
  }
  return result;
}

Plane multiply(const Plane& a, const Plane& b) {
  Plane product(a.size());
  std::ranges::transform(a, b, product.begin(), std::multiplies<>{});
  return product;
}

double find_ssim(const Plane& a, const Plane& b, Size size) {
  const Plane mean_a = blur(a, size);
  const Plane mean_b = blur(b, size);
  const Plane square_a = blur(multiply(a, a), size);
  const Plane square_b = blur(multiply(b, b), size);
  const Plane product = blur(multiply(a, b), size);
  double sum = 0;
  for (std::size_t i = 0; i < mean_a.size(); ++i) {
    const double means = mean_a[i] * mean_b[i];
    const double mean_squares = mean_a[i] * mean_a[i] + mean_b[i] * mean_b[i];
    const double variances = square_a[i] + square_b[i] - mean_squares;
    const double covariance = product[i] - means;
    sum += (2 * means + kC1) * (2 * covariance + kC2) / ((mean_squares + kC1) * (variances + kC2));
  }
  return sum / static_cast<double>(mean_a.size());
}

}  // namespace

FrameQuality compare_frames(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b,
                            int width, int height) {
  const auto num_bytes = static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3;
  if (width < 1 || height < 1 || a.size() != num_bytes || b.size() != num_bytes) {
    fail("frames of {} and {} bytes, wanted {}×{}×3", a.size(), b.size(), height, width);
  }
  FrameQuality quality;
  double squares = 0;
  for (std::size_t i = 0; i < num_bytes; ++i) {
    const int difference = std::abs(int{a[i]} - int{b[i]});
    quality.largest_difference = std::max(quality.largest_difference, difference);
    squares += difference * difference;
  }
  const double mean = squares / static_cast<double>(num_bytes);
  quality.psnr =
      mean > 0 ? 10 * std::log10(kPeak * kPeak / mean) : std::numeric_limits<double>::infinity();
  quality.ssim = find_ssim(luma(a), luma(b), {width, height});
  return quality;
}

double whole_psnr(std::span<const FrameQuality> frames) {
  double error = 0;
  for (const FrameQuality& frame : frames) error += std::pow(10.0, -frame.psnr / 10);
  const double mean = error / static_cast<double>(frames.size());
  return mean > 0 ? -10 * std::log10(mean) : std::numeric_limits<double>::infinity();
}

double mean_of(std::span<const FrameQuality> frames, double FrameQuality::* member) {
  double sum = 0;
  for (const FrameQuality& frame : frames) sum += frame.*member;
  return sum / static_cast<double>(frames.size());
}

void fail_to_compare(const std::filesystem::path& first, const std::string& found_first,
                     const std::filesystem::path& second, const std::string& found_second) {
  fail("'{}' is {}, '{}' is {}: they cannot be compared", first.string(), found_first,
       second.string(), found_second);
}

VideoQuality compare_videos(const std::filesystem::path& first, const std::filesystem::path& second,
                            const StopFn& should_stop) {
  const std::array readers{make_video_reader(first, {}, should_stop),
                           make_video_reader(second, {}, should_stop)};
  const VideoFormat& format = readers[0]->format();
  const VideoFormat& other = readers[1]->format();
  if (format.width != other.width || format.height != other.height) {
    const auto describe = [](const VideoFormat& size) {
      return fmt::format("{}x{}", size.width, size.height);
    };
    fail_to_compare(first, describe(format), second, describe(other));
  }
  std::vector<std::uint8_t> a(format.frame_bytes());
  std::vector<std::uint8_t> b(format.frame_bytes());
  VideoQuality quality;
  for (;;) {
    if (should_stop && should_stop()) throw Cancelled();
    const bool has_first = readers[0]->read_frame(a);
    const bool has_second = readers[1]->read_frame(b);
    if (has_first != has_second) {
      const auto longer = fmt::format("{} frames or more", quality.frames.size() + 1);
      const auto shorter = fmt::format("{} frames", quality.frames.size());
      fail_to_compare(first, has_first ? longer : shorter, second, has_first ? shorter : longer);
    }
    if (!has_first) break;
    quality.frames.push_back(compare_frames(a, b, format.width, format.height));
  }
  if (quality.frames.empty()) fail("'{}' has no frames", first.string());
  for (const auto& reader : readers) {
    const std::vector<std::string> notes = reader->notes();
    quality.notes.insert(quality.notes.end(), notes.begin(), notes.end());
  }
  return quality;
}

}  // namespace mochi
