#include <chrono>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/memory_usage.h"
#include "io/video_writer.h"
#include "job/checkpoint_file.h"
#include "job/job.h"
#include "job/latents_file.h"
#include "job/output_path.h"

namespace mochi::job {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using OrderedJson = nlohmann::ordered_json;

// Passes everything on, and adds up the seconds of the phases.
class TimingObserver : public Observer {
 public:
  explicit TimingObserver(JobObserver& outer) : outer_(outer) {}

  bool on_progress(const Progress& progress) override {
    // A phase has several items, the networks that are loaded.
    if (progress.num_done == progress.num_before) begin_seconds_ = seconds_[progress.phase];
    seconds_[progress.phase] = begin_seconds_ + progress.seconds;
    return remember(!outer_.on_progress(progress)) == false;
  }
  bool should_stop() override { return remember(outer_.should_stop()); }
  void on_step(const StepView& view) override { outer_.on_step(view); }
  void on_interrupted(const StepView& view) override { outer_.on_interrupted(view); }

  const std::map<Phase, double>& seconds() const { return seconds_; }
  bool was_stopped() const { return was_stopped_; }
  JobObserver& outer() { return outer_; }

 private:
  bool remember(bool stops) {
    was_stopped_ = was_stopped_ || stops;
    return stops;
  }

  JobObserver& outer_;
  std::map<Phase, double> seconds_;
  double begin_seconds_ = 0;
  bool was_stopped_ = false;
};

// Writes checkpoints of a sampling. One that cannot be written costs a warning, not the video.
class Checkpoints : public TimingObserver {
 public:
  Checkpoints(const Job& job, JobObserver& outer)
      : TimingObserver(outer),
        every_(job.input.options.checkpoint_every.value_or(0)),
        path_(job.checkpoint),
        recipe_(job.described),
        is_written_(job.input.start.has_value()) {
    if (const OrderedJson run = describe_run(job.recipe); !run.empty()) recipe_["run"] = run;
  }

  void on_step(const StepView& view) override {
    TimingObserver::on_step(view);
    if (view.num_done() == view.num_steps()) evaluated_steps_ = view.evaluated_steps();
    if (every_ > 0 && view.num_done() % every_ == 0 && view.num_done() < view.num_steps()) {
      write(view.num_done(), view.state());
    }
  }
  // A stopped run leaves a checkpoint if checkpoints are on; a failed run always leaves one.
  void on_interrupted(const StepView& view) override {
    TimingObserver::on_interrupted(view);
    if (view.num_done() == written_steps_ || (every_ == 0 && was_stopped() && !is_written_)) return;
    // Without checkpoints the run has not looked whether this name is free.
    if (every_ == 0 && !is_written_) path_ = unused_path(path_);
    write(view.num_done(), final_state(view));
  }

  bool is_written() const { return is_written_; }
  const fs::path& path() const { return path_; }
  // The steps of a complete sampling.
  const std::vector<int>& evaluated_steps() const { return evaluated_steps_; }

 private:
  // After a failure the latents alone are better than nothing.
  std::optional<SamplerState> final_state(const StepView& view) {
    std::optional<SamplerState> state = view.state();
    if (state || was_stopped() || is_written_) return state;
    outer().on_warning(
        "saved without the caches of its sparsity, which the next steps compute again; the video "
        "will differ a little");
    return SamplerState{view.num_done(), view.latents()};
  }

  void write(int num_done, const std::optional<SamplerState>& state) {
    if (!state) return;
    try {
      write_checkpoint(path_, *state, recipe_);
      is_written_ = true;
      has_failed_ = false;
      written_steps_ = num_done;
    } catch (const Error& error) {
      if (!has_failed_) {  // one warning, though every later one may fail as well
        outer().on_warning(fmt::format("no checkpoint after step {}: {}", num_done, error.what()));
      }
      has_failed_ = true;
    }
  }

  int every_;
  fs::path path_;
  OrderedJson recipe_;
  bool is_written_;
  bool has_failed_ = false;
  int written_steps_ = 0;
  std::vector<int> evaluated_steps_;
};

class JobRun {
 public:
  JobRun(const Job& job, Engine& engine, JobObserver& observer,
         const std::vector<fs::path>& rescue_folders)
      : job_(job),
        engine_(engine),
        observer_(observer),
        checkpoints_(job, observer),
        rescue_folders_(rescue_folders) {}

  Outcome run() {
    const Clock::time_point begin = Clock::now();
    Outcome outcome{.output = job_.output,
                    .size = job_.resolved.size,
                    .fps = job_.recipe.fps(),
                    .seconds = {},
                    .sidecar = {}};
    const bool samples = !job_.input.options.latents_file;
    latents_ = samples ? sample() : job_.resolved.latents;
    if (samples) save_latents();
    decode(samples);
    outcome.seconds = checkpoints_.seconds();
    outcome.total_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    outcome.peak_memory_bytes = peak_memory_bytes();
    outcome.peak_device_bytes = engine_.info().peak_device_bytes;
    finish(outcome);
    return outcome;
  }

 private:
  Latents sample() {
    const std::optional<SamplerState>& start = job_.input.start;
    try {
      return engine_.sample(job_.resolved.generate, checkpoints_,
                            {.start = start ? &*start : nullptr,
                             .evaluated_steps = job_.input.evaluated_steps,
                             .checks_finite = job_.input.options.checks_finite});
    } catch (...) {
      if (checkpoints_.is_written()) {
        observer_.on_kept({Kept::Kind::kCheckpoint, checkpoints_.path()});
      }
      throw;
    }
  }

  StopFn should_stop() {
    return [this] { return checkpoints_.should_stop(); };
  }

  void save_latents() {
    const std::optional<fs::path>& path = job_.input.options.save_latents;
    if (!path) return;
    try {
      write_latents(*path, latents_, job_.described, should_stop());
      kept_latents_ = path;
    } catch (const Cancelled&) {
      rescue_latents();
      throw;
    } catch (const Error& error) {
      observer_.on_warning(fmt::format("the latents are not saved: {}", error.what()));
    }
  }

  void decode(bool samples) {
    try {
      decode_to_file();
    } catch (...) {
      if (samples) rescue_latents();
      throw;
    }
  }

  // Writes a video that appears whole or not at all.
  void decode_to_file() {
    const VideoSize& size = job_.resolved.size;
    const std::unique_ptr<VideoWriter> writer =
        make_video_writer(job_.output, {size.width, size.height, job_.recipe.fps()}, should_stop());
    engine_.decode(
        latents_,
        [&](std::span<const std::uint8_t> rgb, std::int64_t frame_idx) {
          observer_.on_frame(rgb, frame_idx, size);
          writer->write_frame(rgb);
        },
        checkpoints_);
    writer->finish();
  }

  // Latents that were sampled are kept where they can be written.
  void rescue_latents() {
    if (!kept_latents_) kept_latents_ = write_rescue();
    if (kept_latents_) observer_.on_kept({Kept::Kind::kLatents, *kept_latents_});
  }

  std::optional<fs::path> write_rescue() const {
    const fs::path beside = rescue_path(job_.output);
    std::vector<fs::path> places{beside};
    for (const fs::path& folder : rescue_folders_) places.push_back(folder / beside.filename());
    for (const fs::path& place : places) {
      try {
        fs::path path = unused_path(place);
        write_latents(path, latents_, job_.described);
        return path;
      } catch (const std::exception&) {
        continue;  // try the next place; the error that ends the job is reported anyway
      }
    }
    return std::nullopt;
  }

  void finish(Outcome& outcome) {
    outcome.sidecar = describe_outcome(outcome);
    try {
      write_file_atomically(sidecar_path(job_.output), outcome.sidecar.dump(2) + "\n");
    } catch (const Error& error) {
      observer_.on_warning(fmt::format("the video is complete, its JSON is not: {}", error.what()));
    }
    std::error_code ignored;
    if (checkpoints_.is_written()) fs::remove(checkpoints_.path(), ignored);
  }

  OrderedJson describe_outcome(const Outcome& outcome) const {
    OrderedJson json = job_.described;
    const std::optional<SparsityConfig>& sparsity = job_.resolved.generate.sparsity;
    if (sparsity && sparsity->step_skipping.rule != SkipRule::kOff) {
      json["sampling"] = {{"evaluated_steps", checkpoints_.evaluated_steps()}};
    }
    OrderedJson seconds = OrderedJson::object();
    for (const auto& [phase, value] : outcome.seconds) seconds[std::string(name_of(phase))] = value;
    seconds["total"] = outcome.total_seconds;
    json["seconds"] = seconds;
    json["peak_memory_bytes"] = outcome.peak_memory_bytes;
    if (outcome.peak_device_bytes > 0) json["peak_device_bytes"] = outcome.peak_device_bytes;
    return json;
  }

  const Job& job_;
  Engine& engine_;
  JobObserver& observer_;
  Checkpoints checkpoints_;
  const std::vector<fs::path>& rescue_folders_;
  Latents latents_;
  std::optional<fs::path> kept_latents_;
};

}  // namespace

Outcome run_job(const Job& job, Engine& engine, JobObserver& observer,
                const std::vector<fs::path>& rescue_folders) {
  return JobRun(job, engine, observer, rescue_folders).run();
}

}  // namespace mochi::job
