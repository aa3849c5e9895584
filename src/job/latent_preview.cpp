#include "job/latent_preview.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "job/contact_sheet.h"

namespace mochi::job {
namespace {

using std::chrono::steady_clock;

constexpr std::int64_t kMaxFrames = 16;
constexpr int kPreviewQuality = 85;
constexpr std::chrono::milliseconds kMinInterval{500};
constexpr int kCostShare = 100;  // a preview is at most this part of the time until the next one

std::vector<std::int64_t> shown_frames(const Latents& latents) {
  return spaced_indices(latents.num_frames, kMaxFrames);
}

// Returns true if the step that `view` shows followed its velocity alone. The evaluation after
// skipped steps may also have corrected the path behind it (StepSkipping::correct_path).
bool is_plain_step(const StepView& view) {
  const std::vector<int> evaluated = view.evaluated_steps();
  const auto is_evaluated = [&](int step) { return std::ranges::binary_search(evaluated, step); };
  const int step = view.num_done() - 1;
  return !is_evaluated(step) || is_evaluated(step - 1);
}

std::uint8_t to_byte(float value) {
  constexpr float kMax = 255.0F;
  return static_cast<std::uint8_t>(std::clamp(value + 0.5F, 0.0F, kMax));
}

// `planes` is [shown frames, 3, height, width].
LatentPreview draw(int step, const std::vector<float>& planes, const Latents& latents) {
  const FrameSize cell{static_cast<int>(latents.width), static_cast<int>(latents.height)};
  const auto plane = static_cast<std::size_t>(latents.height * latents.width);
  const auto num_frames = static_cast<int>(planes.size() / (plane * kNumColors));
  ContactSheet sheet(cell, num_frames);
  std::vector<std::uint8_t> rgb(plane * kNumColors);
  const float* values = planes.data();
  for (int frame = 0; frame < num_frames; ++frame) {
    for (std::size_t color = 0; color < kNumColors; ++color) {
      for (std::size_t i = 0; i < plane; ++i) rgb[i * kNumColors + color] = to_byte(*values++);
    }
    sheet.put(frame, rgb);
  }
  return {.step = step,
          .width = cell.width,
          .height = cell.height,
          .num_frames = num_frames,
          .columns = sheet.num_columns(),
          .jpeg = sheet.encode_jpeg(kPreviewQuality)};
}

}  // namespace

float extrapolate_to_clean(float before, float after, double level_before, double level_after) {
  const double slope = (static_cast<double>(after) - before) / (level_before - level_after);
  return static_cast<float>(after + level_after * slope);
}

PreviewMaker::PreviewMaker(LatentMap map, std::vector<double> noise_levels, Clock clock)
    : map_(std::move(map)), noise_levels_(std::move(noise_levels)), clock_(std::move(clock)) {}

std::optional<LatentPreview> PreviewMaker::on_step(const StepView& view) {
  const steady_clock::time_point begin = clock_();
  if (next_ && begin < *next_) return std::nullopt;
  std::optional<LatentPreview> preview = look(view);
  cost_ += clock_() - begin;
  if (preview) {
    next_ = begin + std::max<steady_clock::duration>(kMinInterval, kCostShare * cost_);
    cost_ = {};
  }
  return preview;
}

std::optional<LatentPreview> PreviewMaker::look(const StepView& view) {
  Colors after = map_colors(view);
  std::optional<Colors> before = std::exchange(last_, after);
  if (!before || before->num_done + 1 != after.num_done || !is_plain_step(view)) {
    return std::nullopt;
  }
  const auto at = static_cast<std::size_t>(after.num_done);
  std::ranges::transform(
      before->planes, after.planes, after.planes.begin(), [&](float from, float to) {
        return extrapolate_to_clean(from, to, noise_levels_[at - 1], noise_levels_[at]);
      });
  return draw(after.num_done, after.planes, view.latents());
}

PreviewMaker::Colors PreviewMaker::map_colors(const StepView& view) const {
  const Latents& latents = view.latents();
  const auto plane = static_cast<std::size_t>(latents.height * latents.width);
  const auto num_frames = static_cast<std::size_t>(latents.num_frames);
  const auto channels = static_cast<std::size_t>(latents.channels);
  const std::vector<std::int64_t> shown = shown_frames(latents);
  Colors colors{view.num_done(), std::vector<float>(shown.size() * kNumColors * plane)};
  float* target = colors.planes.data();
  for (const std::int64_t frame : shown) {
    for (std::size_t color = 0; color < kNumColors; ++color, target += plane) {
      std::fill_n(target, plane, map_.bias[color]);
      for (std::size_t channel = 0; channel < channels; ++channel) {
        const float weight = map_.weights[color * channels + channel];
        const float* const values =
            &latents.values[(channel * num_frames + static_cast<std::size_t>(frame)) * plane];
        for (std::size_t i = 0; i < plane; ++i) target[i] += weight * values[i];
      }
    }
  }
  return colors;
}

}  // namespace mochi::job
