// Reports of a worker to its server while it makes a video.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "job/job.h"
#include "job/latent_preview.h"
#include "job/pictures.h"
#include "server/worker_channel.h"

namespace mochi::server {

// How long the decoder has taken before, to estimate the end of a video while it is sampled.
struct DecodingRate {
  double seconds_per_pixel = 0;  // 0: unknown
};

class WorkerObserver final : public job::JobObserver {
 public:
  WorkerObserver(WorkerChannel& channel, const job::Job& job, const DecodingRate& rate,
                 std::optional<job::LatentMap> preview_map);

  bool on_progress(const Progress& progress) override;
  bool should_stop() override { return channel_.should_stop(); }
  void on_step(const StepView& view) override;
  void on_warning(std::string_view text) override;
  void on_frame(std::span<const std::uint8_t> rgb, std::int64_t frame_idx,
                const VideoSize& size) override;

  // Steps that evaluated the transformer in this run.
  std::int64_t num_evaluated() const { return num_evaluated_; }

 private:
  void report_step(const Progress& progress);
  void report_phase(const Progress& progress);
  bool is_due(const Progress& progress);
  double decoding_seconds() const;
  int advance_to(double fraction);

  WorkerChannel& channel_;
  const job::Job& job_;
  DecodingRate rate_;
  std::optional<job::PreviewMaker> previews_;
  job::Pictures pictures_;
  std::int64_t num_evaluated_ = 0;
  int progress_ = 0;  // percent of the whole video
  std::chrono::steady_clock::time_point next_report_ = {};
};

}  // namespace mochi::server
