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
  Shown clean = std::exchange(last_, copy_shown(view));
  if (clean.num_done + 1 != last_.num_done || !is_plain_step(view)) return std::nullopt;
  clean.num_done = last_.num_done;
  const auto at = static_cast<std::size_t>(last_.num_done);
  std::ranges::transform(
      clean.values, last_.values, clean.values.begin(), [&](float before, float after) {
        return extrapolate_to_clean(before, after, noise_levels_[at - 1], noise_levels_[at]);
      });
  return draw(clean, view.latents());
}

PreviewMaker::Shown PreviewMaker::copy_shown(const StepView& view) {
  const Latents& latents = view.latents();
  const std::int64_t plane = latents.height * latents.width;
  Shown shown{view.num_done(), {}};
  for (const std::int64_t frame : spaced_indices(latents.num_frames, kMaxFrames)) {
    for (std::int64_t channel = 0; channel < latents.channels; ++channel) {
      const auto first = latents.values.begin() + (channel * latents.num_frames + frame) * plane;
      shown.values.insert(shown.values.end(), first, first + plane);
    }
  }
  return shown;
}

LatentPreview PreviewMaker::draw(const Shown& shown, const Latents& size) const {
  const FrameSize cell{static_cast<int>(size.width), static_cast<int>(size.height)};
  const auto plane = static_cast<std::size_t>(size.height * size.width);
  const std::size_t frame_size = plane * static_cast<std::size_t>(size.channels);
  const auto num_frames = static_cast<int>(shown.values.size() / frame_size);
  std::vector<float> planes(plane * kNumColors);
  std::vector<std::uint8_t> rgb(planes.size());
  ContactSheet sheet(cell, num_frames);
  for (int frame = 0; frame < num_frames; ++frame) {
    const std::size_t first = static_cast<std::size_t>(frame) * frame_size;
    map_.map(std::span(shown.values).subspan(first, frame_size), planes);
    for (std::size_t i = 0; i < rgb.size(); ++i) {
      rgb[i] = to_byte(planes[i % kNumColors * plane + i / kNumColors]);
    }
    sheet.put(frame, rgb);
  }
  return {.step = shown.num_done,
          .width = cell.width,
          .height = cell.height,
          .num_frames = num_frames,
          .columns = sheet.num_columns(),
          .jpeg = sheet.encode_jpeg(kPreviewQuality)};
}

}  // namespace mochi::job
