#include "study/analysis_run.h"

#include <fmt/core.h>

#include <functional>
#include <memory>
#include <utility>

#include "base/difference.h"
#include "base/error.h"
#include "io/video_writer.h"

namespace mochi::study {
namespace {

namespace fs = std::filesystem;

constexpr int kStripFrames = 6;

// Latents after each step of a sampling.
class StepLatents : public TimingObserver {
 public:
  using TimingObserver::TimingObserver;
  void on_step(const StepView& view) override { latents_.push_back(view.latents()); }
  const std::vector<Latents>& latents() const { return latents_; }

 private:
  std::vector<Latents> latents_;
};

// Measures every site, and the distance from the dense latents after each step.
class SiteMeasurements : public TimingObserver {
 public:
  SiteMeasurements(StudyObserver& study, const std::vector<Latents>& dense, Analysis& analysis)
      : TimingObserver(study), dense_(dense), analysis_(analysis) {}
  void on_step(const StepView& view) override {
    const Latents& wanted = dense_[static_cast<std::size_t>(view.num_done() - 1)];
    analysis_.latents_errors.push_back(
        difference_of(wanted.values, view.latents().values).relative());
  }
  bool wants_sites() const override { return true; }
  void on_site(const SiteReport& site) override {
    analysis_.sites[{site.step, site.is_null_branch, site.layer}] = site;
  }

 private:
  const std::vector<Latents>& dense_;
  Analysis& analysis_;
};

class Run {
 public:
  Run(Engine& engine, const GenerateRequest& request, FrameRate fps, fs::path folder,
      StudyObserver& study)
      : engine_(engine),
        format_{request.width, request.height, fps},
        folder_(std::move(folder)),
        study_(study) {
    analysis_.request = request;
    leave_out_skipping();
    analysis_.delta = request.sparsity.value_or(SparsityConfig{}).attn.delta;
    try_writing([&] {
      const std::string note =
          VideoOutputChecks().check(folder_ / kDenseVideo, format_, should_stop());
      if (!note.empty()) study_.on_warning(note);
    });
  }

  // Attention is compared at every step.
  void leave_out_skipping() {
    if (!analysis_.request.sparsity) return;
    StepSkipping& skipping = analysis_.request.sparsity->step_skipping;
    if (skipping.rule == SkipRule::kOff) return;
    skipping = {};
    study_.on_warning("step_skipping has no effect: the analysis compares every step");
  }

  Analysis run() {
    GenerateRequest dense_request = analysis_.request;
    dense_request.sparsity.reset();
    study_.on_part("1 of 3: dense");
    StepLatents dense(study_);
    engine_.sample(dense_request, dense);
    analysis_.dense = dense.times();
    const Frames dense_frames = decode(dense.latents().back(), kDenseVideo, analysis_.dense);

    study_.on_part("2 of 3: sparse");
    TimingObserver timing(study_);
    const Latents sparse = engine_.sample(analysis_.request, timing);
    analysis_.sparse = timing.times();
    compare(dense_frames, decode(sparse, kSparseVideo, analysis_.sparse));

    study_.on_part("3 of 3: sparse, with measurements");
    SiteMeasurements measurements(study_, dense.latents(), analysis_);
    const Latents measured = engine_.sample(analysis_.request, measurements);
    analysis_.is_undisturbed = measured.values == sparse.values;
    finish_videos();
    return std::move(analysis_);
  }

 private:
  StopFn should_stop() {
    return [this] { return study_.should_stop(); };
  }

  // Runs a part of writing the videos. The rest of the report is useful without them.
  template <typename Write>
  void try_writing(const Write& write) {
    if (!writes_videos_) return;
    try {
      write();
    } catch (const Cancelled&) {
      throw;
    } catch (const Error& error) {
      if (study_.should_stop()) throw Cancelled();  // a signal has ended ffmpeg, too
      writes_videos_ = false;
      study_.on_warning(fmt::format("the report has no videos: {}", error.what()));
    }
  }

  Frames decode(const Latents& latents, const char* name, RunTimes& times) {
    std::unique_ptr<VideoWriter> writer;
    try_writing([&] { writer = make_video_writer(folder_ / name, format_, should_stop()); });
    TimingObserver timing(study_);
    Frames frames;
    engine_.decode(
        latents,
        [&](std::span<const std::uint8_t> rgb, std::int64_t /*frame_idx*/) {
          frames.emplace_back(rgb.begin(), rgb.end());
          try_writing([&] { writer->write_frame(rgb); });
        },
        timing);
    try_writing([&] { writer->finish(); });
    times.add(timing.times());
    return frames;
  }

  // Two videos or none: one alone cannot be compared.
  void finish_videos() {
    analysis_.has_videos = writes_videos_;
    if (writes_videos_) return;
    std::error_code ignored;
    for (const char* name : {kDenseVideo, kSparseVideo}) fs::remove(folder_ / name, ignored);
  }

  void compare(const Frames& dense, const Frames& sparse) {
    const int width = analysis_.request.width;
    const int height = analysis_.request.height;
    for (std::size_t i = 0; i < dense.size(); ++i) {
      if (study_.should_stop()) throw Cancelled();
      analysis_.frames.push_back(compare_frames(dense[i], sparse[i], width, height));
    }
    analysis_.strips =
        make_strips(dense, sparse, choose_frames(analysis_.frames, kStripFrames), width, height);
  }

  Engine& engine_;
  VideoFormat format_;
  fs::path folder_;
  StudyObserver& study_;
  bool writes_videos_ = true;
  Analysis analysis_;
};

}  // namespace

Analysis run_analysis(Engine& engine, const GenerateRequest& request, FrameRate fps,
                      const fs::path& folder, StudyObserver& observer) {
  return Run(engine, request, fps, folder, observer).run();
}

}  // namespace mochi::study
