#include "server/worker_observer.h"

#include <algorithm>
#include <utility>

#include "base/base64.h"

namespace mochi::server {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;
using OrderedJson = nlohmann::ordered_json;

constexpr milliseconds kReportPeriod{200};
constexpr double kSamplingShare = 0.9;  // part of a video's progress

double fraction_of(const Progress& progress) {
  return progress.num_total > 0
             ? static_cast<double>(progress.num_done) / static_cast<double>(progress.num_total)
             : 0;
}

// Returns the time for the rest of this phase, at the speed of what this call has done.
std::optional<double> seconds_left_in(const Progress& progress) {
  if (progress.phase == Phase::kSampling) {
    if (progress.num_evaluated == 0) return std::nullopt;
    return progress.seconds / static_cast<double>(progress.num_evaluated) *
           progress.num_evaluations_left;
  }
  const std::int64_t num_here = progress.num_done - progress.num_before;
  if (progress.phase != Phase::kDecoding || num_here == 0) return std::nullopt;
  return progress.seconds / static_cast<double>(num_here) *
         static_cast<double>(progress.num_total - progress.num_done);
}

OrderedJson to_json(std::optional<double> value) {
  return value ? OrderedJson(*value) : OrderedJson(nullptr);
}

}  // namespace

WorkerObserver::WorkerObserver(WorkerChannel& channel, const job::Job& job,
                               const DecodingRate& rate, std::optional<job::LatentMap> preview_map)
    : channel_(channel),
      job_(job),
      rate_(rate),
      pictures_({.thumbnail = job.output.parent_path() / "thumbnail.jpg",
                 .spritesheet = job.output.parent_path() / "spritesheet.jpg"},
                [this](std::string_view text) { on_warning(text); }) {
  if (preview_map) {
    previews_.emplace(*std::move(preview_map), noise_levels(job.resolved.generate));
  }
}

bool WorkerObserver::on_progress(const Progress& progress) {
  if (progress.phase == Phase::kSampling && progress.num_done > progress.num_before) {
    report_step(progress);
  } else if (is_due(progress)) {
    report_phase(progress);
  }
  return !should_stop();
}

bool WorkerObserver::is_due(const Progress& progress) {
  const Clock::time_point now = Clock::now();
  const bool is_end = progress.num_done == progress.num_total;
  const bool is_begin = progress.num_done == progress.num_before;
  if (!is_begin && !is_end && now < next_report_) return false;
  next_report_ = now + kReportPeriod;
  return true;
}

// A network that is loaded in between does not set the progress back.
int WorkerObserver::advance_to(double fraction) {
  constexpr double kPercent = 100;
  progress_ = std::max(progress_, static_cast<int>(fraction * kPercent));
  return progress_;
}

double WorkerObserver::decoding_seconds() const {
  const VideoSize& size = job_.resolved.size;
  return rate_.seconds_per_pixel * size.width * size.height * size.num_frames;
}

void WorkerObserver::report_step(const Progress& progress) {
  const bool is_evaluated = progress.num_evaluated > num_evaluated_;
  num_evaluated_ = progress.num_evaluated;
  std::optional<double> left = seconds_left_in(progress);
  if (left) left = *left + decoding_seconds();
  channel_.send({{"type", "step"},
                 {"data",
                  {{"step", progress.num_done},
                   {"num_steps", progress.num_total},
                   {"evaluated", is_evaluated},
                   {"num_evaluated", num_evaluated_},
                   {"progress", advance_to(fraction_of(progress) * kSamplingShare)},
                   {"seconds_left", to_json(left)}}}});
}

void WorkerObserver::report_phase(const Progress& progress) {
  double fraction = 0;
  if (progress.phase == Phase::kSampling) fraction = fraction_of(progress) * kSamplingShare;
  if (progress.phase == Phase::kDecoding) {
    fraction = kSamplingShare + fraction_of(progress) * (1 - kSamplingShare);
  }
  channel_.send({{"type", "phase"},
                 {"data",
                  {{"phase", name_of(progress.phase)},
                   {"item", progress.item},
                   {"num_done", progress.num_done},
                   {"num_total", progress.num_total},
                   {"progress", advance_to(fraction)},
                   {"seconds_left", to_json(seconds_left_in(progress))}}}});
}

void WorkerObserver::on_step(const StepView& view) {
  if (!previews_) return;
  const std::optional<job::LatentPreview> preview = previews_->on_step(view);
  if (!preview) return;
  channel_.send({{"type", "preview"},
                 {"data",
                  {{"step", preview->step},
                   {"width", preview->width},
                   {"height", preview->height},
                   {"columns", preview->columns},
                   {"num_frames", preview->num_frames},
                   {"image", "data:image/jpeg;base64," + encode_base64(preview->jpeg)}}}});
}

void WorkerObserver::on_warning(std::string_view text) {
  channel_.send({{"type", "warning"}, {"text", text}});
}

void WorkerObserver::on_frame(std::span<const std::uint8_t> rgb, std::int64_t frame_idx,
                              const VideoSize& size) {
  pictures_.add(rgb, frame_idx, size);
}

}  // namespace mochi::server
