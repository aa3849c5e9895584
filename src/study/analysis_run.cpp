#include "study/analysis_run.h"

#include <fmt/core.h>

#include <functional>
#include <memory>
#include <string_view>
#include <utility>

#include "base/difference.h"
#include "base/error.h"
#include "io/video_writer.h"
#include "study/analysis_words.h"

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

// Measures every site and skipped step, and the distance from the dense latents after each step.
class Measurements : public TimingObserver {
 public:
  Measurements(StudyObserver& study, const std::vector<Latents>& dense, Analysis& analysis)
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
  bool wants_skips() const override { return true; }
  void on_skip(const SkipReport& skip) override { analysis_.skips[skip.step] = skip; }
  bool wants_products() const override { return true; }
  void on_product(const ProductReport& product) override { analysis_.products.push_back(product); }

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
    analysis_.noise_levels = noise_levels(request);
    analysis_.delta = request.sparsity.value_or(SparsityConfig{}).attn.delta;
    try_writing([&] {
      const std::string note =
          VideoOutputChecks().check(folder_ / kDenseVideo, format_, should_stop());
      if (!note.empty()) study_.on_warning(note);
    });
  }

  Analysis run() {
    GenerateRequest dense_request = analysis_.request;
    dense_request.sparsity.reset();
    study_.on_part("1 of 3: dense");
    StepLatents dense(study_);
    engine_.sample(dense_request, dense);
    analysis_.dense = dense.times();
    const Frames dense_frames = decode(dense.latents().back(), kDenseVideo, analysis_.dense);

    const RunNames names = name_run(analysis_);
    study_.on_part(fmt::format("2 of 3: {}", names.run));
    TimingObserver timing(study_);
    const Latents sparse = engine_.sample(analysis_.request, timing);
    analysis_.sparse = timing.times();
    compare(dense_frames, decode(sparse, names.file, analysis_.sparse));

    study_.on_part(fmt::format("3 of 3: {}, with measurements", names.run));
    Measurements measurements(study_, dense.latents(), analysis_);
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

  Frames decode(const Latents& latents, std::string_view name, RunTimes& times) {
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
    for (const std::string_view name : {std::string_view(kDenseVideo), name_run(analysis_).file}) {
      fs::remove(folder_ / name, ignored);
    }
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
