#include "study/evaluator.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/difference.h"
#include "base/error.h"
#include "cli/command_observer.h"
#include "cli/progress_display.h"
#include "io/video_quality.h"
#include "job/latents_file.h"

namespace mochi::study {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// Trials tell their own progress in lines; a bar shows where one of them stands.
ProgressDisplay::Style sampling_style(bool is_quiet) {
  const ProgressDisplay::Style style = display_style(is_quiet);
  return style == ProgressDisplay::Style::kBar ? style : ProgressDisplay::Style::kNone;
}

std::vector<std::uint8_t> decode_bytes(Engine& engine, const Latents& latents) {
  std::vector<std::uint8_t> bytes;
  ProgressDisplay display(ProgressDisplay::Style::kNone);
  CommandObserver observer(display);
  engine.decode(
      latents,
      [&bytes](std::span<const std::uint8_t> rgb, std::int64_t /*frame_idx*/) {
        bytes.insert(bytes.end(), rgb.begin(), rgb.end());
      },
      observer);
  return bytes;
}

}  // namespace

Evaluator::Evaluator(Engine& engine, std::vector<GenerateRequest> requests, fs::path folder,
                     TuneRecord& record, bool is_quiet)
    : engine_(engine),
      requests_(std::move(requests)),
      folder_(std::move(folder)),
      record_(record),
      is_quiet_(is_quiet) {}

void Evaluator::prepare_dense() {
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    const fs::path path = latents_path(folder_, i);
    if (i < record_.dense.size()) {
      const std::string found = fingerprint_file(path);
      if (found == record_.dense[i].fingerprint) continue;
      fail("'{}' has changed since: wanted fingerprint {}, found {}", path.string(),
           record_.dense[i].fingerprint, found);
    }
    const Sample dense = sample(requests_[i]);
    job::write_latents_file(path, dense.latents);
    record_.dense.push_back({dense.seconds, fingerprint_file(path)});
    write_record(folder_, record_);
    if (!is_quiet_) {
      fmt::print(stderr, "dense video {} of {}: {}\n", i + 1, requests_.size(),
                 format_seconds(dense.seconds));
    }
  }
}

Evaluation Evaluator::evaluate(const SparsityConfig& config, std::size_t prompt_idx) {
  const std::size_t trial_idx = record_.find_or_add(config);
  std::vector<Evaluation>& known = record_.trials[trial_idx].evaluations;
  if (prompt_idx < known.size()) return known[prompt_idx];
  const Clock::time_point begin = Clock::now();
  GenerateRequest request = requests_[prompt_idx];
  request.sparsity = config;
  const Sample sparse = sample(request);
  known.push_back(compare(job::read_latents(latents_path(folder_, prompt_idx)), sparse));
  write_record(folder_, record_);
  made_seconds_ += std::chrono::duration<double>(Clock::now() - begin).count();
  ++num_made_;
  return known.back();
}

double Evaluator::seconds_per_evaluation() const {
  return num_made_ > 0 ? made_seconds_ / num_made_ : 0;
}

Evaluator::Sample Evaluator::sample(const GenerateRequest& request) const {
  ProgressDisplay display(sampling_style(is_quiet_));
  Sample sample;
  CommandObserver observer(display);
  sample.latents = engine_.sample(request, observer);
  sample.seconds = display.seconds().at(Phase::kSampling);
  return sample;
}

Evaluation Evaluator::compare(const Latents& dense, const Sample& sparse) {
  const std::vector<std::uint8_t> wanted = decode_bytes(engine_, dense);
  const VideoSize size = engine_.model().video_size(dense);
  ProgressDisplay display(ProgressDisplay::Style::kNone);
  CommandObserver observer(display);
  std::vector<FrameQuality> frames;
  engine_.decode(
      sparse.latents,
      [&](std::span<const std::uint8_t> rgb, std::int64_t /*frame_idx*/) {
        const auto frame = std::span(wanted).subspan(frames.size() * rgb.size(), rgb.size());
        frames.push_back(compare_frames(frame, rgb, size.width, size.height));
      },
      observer);
  return {.seconds = sparse.seconds,
          .psnr = std::min(whole_psnr(frames), kMaxPsnr),
          .ssim = mochi::mean_of(frames, &FrameQuality::ssim),
          .relative_error = difference_of(dense.values, sparse.latents.values).relative()};
}

}  // namespace mochi::study
