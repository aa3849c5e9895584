#include "study/evaluator.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "base/difference.h"
#include "base/error.h"
#include "io/video_quality.h"
#include "job/latents_file.h"

namespace mochi::study {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// Adds what is known of the steps to an evaluation.
void add_times(const RunTimes& times, const SparsityConfig& config, Evaluation& evaluation) {
  const auto num_steps = static_cast<int>(times.step_seconds.size());
  std::set<int> full_steps;
  if (config.attn.is_enabled) full_steps = list_full_steps(config, num_steps);
  std::vector<double> full;
  std::vector<double> sparse;
  for (const int step : times.evaluated_steps) {
    (full_steps.contains(step) ? full : sparse)
        .push_back(times.step_seconds[static_cast<std::size_t>(step)]);
  }
  evaluation.seconds = times.seconds.at(Phase::kSampling);
  evaluation.num_evaluated = static_cast<int>(times.evaluated_steps.size());
  if (!config.attn.is_enabled) return;
  evaluation.full_step_seconds = median_of(std::move(full));
  evaluation.sparse_step_seconds = median_of(std::move(sparse));
}

}  // namespace

Evaluator::Evaluator(Engine& engine, std::vector<DenseVideo> videos, fs::path folder,
                     TuneRecord& record, TuneObserver& observer)
    : engine_(engine),
      videos_(std::move(videos)),
      folder_(std::move(folder)),
      record_(record),
      observer_(observer) {}

void Evaluator::prepare_dense() {
  for (std::size_t i = 0; i < videos_.size(); ++i) {
    const fs::path path = latents_path(folder_, i);
    if (i < record_.dense.size()) {
      const std::string found = fingerprint_file(path);
      if (found == record_.dense[i].fingerprint) continue;
      fail("'{}' was changed: wanted fingerprint {}, found {}", path.string(),
           record_.dense[i].fingerprint, found);
    }
    const Sample dense = sample(videos_[i].request);
    job::write_latents(path, dense.latents, videos_[i].recipe);
    record_.dense.push_back(
        {dense.seconds(), median_of(dense.times.step_seconds), fingerprint_file(path)});
    write_record(folder_, record_);
    observer_.on_dense_video(i, videos_.size(), dense.seconds());
  }
}

Evaluation Evaluator::evaluate(const SparsityConfig& config, std::size_t prompt_idx) {
  const std::size_t trial_idx = record_.find_or_add(config);
  std::vector<Evaluation>& known = record_.trials[trial_idx].evaluations;
  if (prompt_idx < known.size()) return known[prompt_idx];
  const Clock::time_point begin = Clock::now();
  GenerateRequest request = videos_[prompt_idx].request;
  request.sparsity = config;
  const Sample sampled = sample(request);
  Evaluation found = compare(job::read_latents(latents_path(folder_, prompt_idx)), sampled.latents);
  add_times(sampled.times, config, found);
  known.push_back(found);
  write_record(folder_, record_);
  made_seconds_ += std::chrono::duration<double>(Clock::now() - begin).count();
  ++num_made_;
  return known.back();
}

double Evaluator::seconds_per_evaluation() const {
  return num_made_ > 0 ? made_seconds_ / num_made_ : 0;
}

Evaluator::Sample Evaluator::sample(const GenerateRequest& request) const {
  TimingObserver timing(observer_);
  Sample sample;
  sample.latents = engine_.sample(request, timing);
  sample.times = timing.times();
  return sample;
}

std::vector<std::uint8_t> Evaluator::decode_bytes(const Latents& latents) {
  std::vector<std::uint8_t> bytes;
  TimingObserver timing(observer_);
  engine_.decode(
      latents,
      [&bytes](std::span<const std::uint8_t> rgb, std::int64_t /*frame_idx*/) {
        bytes.insert(bytes.end(), rgb.begin(), rgb.end());
      },
      timing);
  return bytes;
}

Evaluation Evaluator::compare(const Latents& dense, const Latents& sampled) {
  const std::vector<std::uint8_t> wanted = decode_bytes(dense);
  const VideoSize size = engine_.model().video_size(dense);
  TimingObserver timing(observer_);
  std::vector<FrameQuality> frames;
  engine_.decode(
      sampled,
      [&](std::span<const std::uint8_t> rgb, std::int64_t /*frame_idx*/) {
        const auto frame = std::span(wanted).subspan(frames.size() * rgb.size(), rgb.size());
        frames.push_back(compare_frames(frame, rgb, size.width, size.height));
      },
      timing);
  return {.psnr = std::min(whole_psnr(frames), kMaxPsnr),
          .ssim = mochi::mean_of(frames, &FrameQuality::ssim),
          .relative_error = difference_of(dense.values, sampled.values).relative()};
}

}  // namespace mochi::study
