#include "study/evaluator.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/difference.h"
#include "base/error.h"
#include "io/video_quality.h"
#include "job/latents_file.h"
#include "study/timing_observer.h"

namespace mochi::study {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

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
    record_.dense.push_back({dense.seconds, fingerprint_file(path)});
    write_record(folder_, record_);
    observer_.on_dense_video(i, videos_.size(), dense.seconds);
  }
}

Evaluation Evaluator::evaluate(const SparsityConfig& config, std::size_t prompt_idx) {
  const std::size_t trial_idx = record_.find_or_add(config);
  std::vector<Evaluation>& known = record_.trials[trial_idx].evaluations;
  if (prompt_idx < known.size()) return known[prompt_idx];
  const Clock::time_point begin = Clock::now();
  GenerateRequest request = videos_[prompt_idx].request;
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
  TimingObserver timing(observer_);
  Sample sample;
  sample.latents = engine_.sample(request, timing);
  sample.seconds = timing.times().seconds.at(Phase::kSampling);
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

Evaluation Evaluator::compare(const Latents& dense, const Sample& sparse) {
  const std::vector<std::uint8_t> wanted = decode_bytes(dense);
  const VideoSize size = engine_.model().video_size(dense);
  TimingObserver timing(observer_);
  std::vector<FrameQuality> frames;
  engine_.decode(
      sparse.latents,
      [&](std::span<const std::uint8_t> rgb, std::int64_t /*frame_idx*/) {
        const auto frame = std::span(wanted).subspan(frames.size() * rgb.size(), rgb.size());
        frames.push_back(compare_frames(frame, rgb, size.width, size.height));
      },
      timing);
  return {.seconds = sparse.seconds,
          .psnr = std::min(whole_psnr(frames), kMaxPsnr),
          .ssim = mochi::mean_of(frames, &FrameQuality::ssim),
          .relative_error = difference_of(dense.values, sparse.latents.values).relative()};
}

}  // namespace mochi::study
