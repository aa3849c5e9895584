#include "study/analysis_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <utility>

#include "base/difference.h"
#include "cli/interrupt.h"
#include "cli/progress_display.h"
#include "io/image.h"
#include "io/video_writer.h"

namespace mochi::study {
namespace {

constexpr int kStripFrames = 6;
constexpr int kDifferenceGain = 4;

using Frames = std::vector<std::vector<std::uint8_t>>;  // RGB bytes of each

using SiteFn = std::function<void(const SiteReport&)>;

// Passes on what the functions want to see; they may be empty.
class StudyObserver final : public Observer {
 public:
  StudyObserver(std::function<void(const StepView&)> on_step, SiteFn on_site)
      : on_step_(std::move(on_step)), on_site_(std::move(on_site)) {}

  // From now on progress goes to the display, and the seconds of steps to `times` unless it is
  // null.
  void show_on(ProgressDisplay& display, RunTimes* times) {
    display_ = &display;
    times_ = times;
  }

  bool on_progress(const Progress& progress) override {
    display_->show(progress);
    if (times_ != nullptr && progress.phase == Phase::kSampling &&
        progress.num_done > std::ssize(times_->step_seconds)) {
      times_->step_seconds.push_back(progress.seconds - seconds_before_);
      seconds_before_ = progress.seconds;
    }
    return !should_stop();
  }
  bool should_stop() override { return interrupt_signal() != 0; }
  void on_step(const StepView& view) override {
    if (on_step_) on_step_(view);
  }
  bool wants_sites() const override { return static_cast<bool>(on_site_); }
  void on_site(const SiteReport& site) override { on_site_(site); }

 private:
  std::function<void(const StepView&)> on_step_;
  SiteFn on_site_;
  ProgressDisplay* display_ = nullptr;
  RunTimes* times_ = nullptr;
  double seconds_before_ = 0;
};

class Run {
 public:
  Run(Engine& engine, const GenerateRequest& request, FrameRate fps, std::filesystem::path video_folder,
      bool is_quiet)
      : engine_(engine), fps_(fps), video_folder_(std::move(video_folder)), is_quiet_(is_quiet) {
    analysis_.request = request;
    analysis_.delta = request.sparsity.value_or(SparsityConfig{}).attn.delta;
  }

  Analysis run() {
    GenerateRequest dense_request = analysis_.request;
    dense_request.sparsity.reset();
    std::vector<Latents> dense;  // after each step
    announce("1 of 3: dense");
    sample(dense_request, &analysis_.dense,
           [&](const StepView& view) { dense.push_back(view.latents()); });
    const Frames dense_frames = decode(dense.back(), "dense.mp4", analysis_.dense);

    announce("2 of 3: sparse");
    const Latents sparse = sample(analysis_.request, &analysis_.sparse, {});
    compare(dense_frames, decode(sparse, "sparse.mp4", analysis_.sparse));

    announce("3 of 3: sparse, watched");
    analysis_.is_undisturbed = sample_watched(dense).values == sparse.values;
    return std::move(analysis_);
  }

 private:
  void announce(const char* what) const {
    if (!is_quiet_) fmt::print(stderr, "{}\n", what);
  }

  // Runs `work`, which observes with `observer`, and adds up its times where there is something to
  // add to.
  template <typename Work>
  auto show(RunTimes* times, StudyObserver& observer, const Work& work) const {
    ProgressDisplay display(display_style(is_quiet_));
    observer.show_on(display, times);
    auto result = work();
    if (times != nullptr) {
      for (const auto& [phase, seconds] : display.seconds()) times->seconds[phase] += seconds;
    }
    return result;
  }

  Latents sample(const GenerateRequest& request, RunTimes* times,
                 std::function<void(const StepView&)> on_step, SiteFn on_site = {}) const {
    StudyObserver observer(std::move(on_step), std::move(on_site));
    return show(times, observer, [&] { return engine_.sample(request, observer); });
  }

  Latents sample_watched(const std::vector<Latents>& dense) {
    const auto compare_latents = [&](const StepView& view) {
      const Latents& wanted = dense[static_cast<std::size_t>(view.num_done() - 1)];
      const double error = difference_of(wanted.values, view.latents().values).relative();
      analysis_.latents_errors.push_back(error);
    };
    return sample(analysis_.request, nullptr, compare_latents, [&](const SiteReport& site) {
      analysis_.sites[{site.step, site.is_null_branch, site.layer}] = site;
    });
  }

  Frames decode(const Latents& latents, const char* name, RunTimes& times) const {
    const VideoFormat format{analysis_.request.width, analysis_.request.height, fps_};
    std::unique_ptr<VideoWriter> writer;
    if (!video_folder_.empty()) writer = make_video_writer(video_folder_ / name, format);
    StudyObserver observer({}, {});
    return show(&times, observer, [&] {
      Frames frames;
      engine_.decode(
          latents,
          [&](std::span<const std::uint8_t> rgb, std::int64_t /*frame_idx*/) {
            frames.emplace_back(rgb.begin(), rgb.end());
            if (writer) writer->write_frame(rgb);
          },
          observer);
      if (writer) writer->finish();
      return frames;
    });
  }

  void compare(const Frames& dense, const Frames& sparse) {
    for (std::size_t i = 0; i < dense.size(); ++i) {
      if (interrupt_signal() != 0) throw Cancelled();
      analysis_.frames.push_back(
          compare_frames(dense[i], sparse[i], analysis_.request.width, analysis_.request.height));
    }
    const std::size_t count = std::min<std::size_t>(kStripFrames, dense.size());
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t frame = count == 1 ? 0 : i * (dense.size() - 1) / (count - 1);
      add_to_strips(static_cast<int>(frame), dense[frame], sparse[frame]);
    }
  }

  void add_to_strips(int frame_idx, const std::vector<std::uint8_t>& dense,
                     const std::vector<std::uint8_t>& sparse) {
    std::vector<std::uint8_t> difference;
    for (std::size_t i = 0; i < dense.size(); ++i) {
      const int value = kDifferenceGain * std::abs(int{dense[i]} - int{sparse[i]});
      difference.push_back(static_cast<std::uint8_t>(std::min(value, 255)));
    }
    const auto encode = [&](const std::vector<std::uint8_t>& rgb) {
      return encode_png(analysis_.request.width, analysis_.request.height, rgb);
    };
    FrameStrips& strips = analysis_.strips;
    strips.frame_idxs.push_back(frame_idx);
    strips.dense.push_back(encode(dense));
    strips.sparse.push_back(encode(sparse));
    strips.difference.push_back(encode(difference));
  }

  Engine& engine_;
  FrameRate fps_;
  std::filesystem::path video_folder_;
  bool is_quiet_;
  Analysis analysis_;
};

}  // namespace

Analysis run_analysis(Engine& engine, const GenerateRequest& request, FrameRate fps,
                      const std::filesystem::path& video_folder, bool is_quiet) {
  return Run(engine, request, fps, video_folder, is_quiet).run();
}

}  // namespace mochi::study
