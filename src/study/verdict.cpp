#include "study/verdict.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>

namespace mochi::study {
namespace {

struct Grade {
  double min_psnr;         // dB
  std::string_view video;  // about a whole video
  std::string_view frame;  // about a single frame
};

constexpr double kLowest = -std::numeric_limits<double>::infinity();
constexpr std::array kGrades{
    Grade{40, "You will not see the difference", "the difference does not show"},
    Grade{35, "You will hardly see the difference", "the difference is hard to see"},
    Grade{30, "You will see small differences if you compare the videos",
          "small differences show if you compare it"},
    Grade{25, "You will see differences", "differences show"},
    Grade{kLowest, "The videos look different", "the picture is different"},
};

const Grade& grade_of(double psnr) {
  return *std::ranges::find_if(kGrades, [psnr](const Grade& g) { return psnr >= g.min_psnr; });
}

}  // namespace

std::string make_verdict(std::span<const FrameQuality> frames) {
  const double whole = whole_psnr(frames);
  if (std::isinf(whole)) return "The videos are equal, byte for byte.";
  const auto worst = std::ranges::min_element(frames, {}, &FrameQuality::psnr);
  const auto worst_idx = worst - frames.begin();
  const Grade& grade = grade_of(whole);
  const Grade& worst_grade = grade_of(worst->psnr);
  if (frames.size() == 1) return fmt::format("{}: {:.1f} dB.", grade.video, whole);
  if (worst_grade.min_psnr == grade.min_psnr) {
    return fmt::format("{}: {:.1f} dB, and {:.1f} dB in the worst frame ({}).", grade.video, whole,
                       worst->psnr, worst_idx);
  }
  return fmt::format(
      "{} in most of the video: {:.1f} dB. But the worst frame ({}) has {:.1f} dB: {}.",
      grade.video, whole, worst_idx, worst->psnr, worst_grade.frame);
}

std::string describe_gain(double dense_seconds, double sparse_seconds) {
  constexpr double kEqual = 0.03;
  const std::string times = fmt::format("{} instead of {}", format_duration(sparse_seconds),
                                        format_duration(dense_seconds));
  const double ratio = dense_seconds / sparse_seconds;
  if (!std::isfinite(ratio) || std::abs(ratio - 1) < kEqual) {
    return fmt::format("Sampling was as fast as dense: {}.", times);
  }
  if (ratio < 1) return fmt::format("Sampling was slower: {}, {:.2f} times as fast.", times, ratio);
  return fmt::format("Sampling was {:.2f} times as fast: {}.", ratio, times);
}

std::string format_duration(double seconds) {
  if (seconds < 10) return fmt::format("{:.2f} s", seconds);
  return fmt::format("{:.{}f} s", seconds, seconds < 100 ? 1 : 0);
}

}  // namespace mochi::study
