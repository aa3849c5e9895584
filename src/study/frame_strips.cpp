#include "study/frame_strips.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "io/image.h"

namespace mochi::study {
namespace {

constexpr std::size_t kNumLevels = 256;

std::vector<std::uint8_t> difference_of(const std::vector<std::uint8_t>& a,
                                        const std::vector<std::uint8_t>& b) {
  std::vector<std::uint8_t> difference;
  difference.reserve(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference.push_back(static_cast<std::uint8_t>(std::abs(int{a[i]} - int{b[i]})));
  }
  return difference;
}

int choose_gain_of(const Frames& differences) {
  std::array<std::int64_t, kNumLevels> counts{};
  for (const auto& frame : differences) {
    for (const std::uint8_t value : frame) ++counts[value];
  }
  return choose_gain(counts);
}

void amplify(std::vector<std::uint8_t>& difference, int gain) {
  for (std::uint8_t& value : difference) {
    value = static_cast<std::uint8_t>(std::min(gain * int{value}, 255));
  }
}

}  // namespace

std::vector<int> choose_frames(std::span<const FrameQuality> frames, int max_count) {
  const int num_frames = static_cast<int>(frames.size());
  const int count = std::min(max_count, num_frames);
  std::vector<int> chosen;
  chosen.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    chosen.push_back(count == 1 ? 0 : i * (num_frames - 1) / (count - 1));
  }
  if (chosen.empty()) return chosen;
  const auto worst_at = std::ranges::min_element(frames, {}, &FrameQuality::psnr);
  const int worst = static_cast<int>(worst_at - frames.begin());
  *std::ranges::min_element(chosen, {}, [&](int idx) { return std::abs(idx - worst); }) = worst;
  return chosen;
}

int choose_gain(std::span<const std::int64_t, 256> counts) {
  constexpr std::int64_t kPart = 1000;
  constexpr int kMaxGain = 64;
  std::int64_t total = 0;
  for (const std::int64_t count : counts) total += count;
  std::size_t highest = kNumLevels - 1;
  for (std::int64_t above = counts[highest]; highest > 1 && above * kPart <= total;) {
    above += counts[--highest];
  }
  int gain = 1;
  while (gain < kMaxGain && 2 * gain * static_cast<int>(highest) <= 255) gain *= 2;
  return gain;
}

FrameStrips make_strips(const Frames& dense, const Frames& sparse, std::vector<int> frame_idxs,
                        int width, int height) {
  FrameStrips strips;
  strips.frame_idxs = std::move(frame_idxs);
  Frames differences;
  for (const int idx : strips.frame_idxs) {
    const auto at = static_cast<std::size_t>(idx);
    strips.dense.push_back(encode_png(width, height, dense[at]));
    strips.sparse.push_back(encode_png(width, height, sparse[at]));
    differences.push_back(difference_of(dense[at], sparse[at]));
  }
  strips.gain = choose_gain_of(differences);
  for (std::vector<std::uint8_t>& difference : differences) {
    amplify(difference, strips.gain);
    strips.difference.push_back(encode_png(width, height, difference));
  }
  return strips;
}

}  // namespace mochi::study
