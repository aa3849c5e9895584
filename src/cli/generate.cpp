#include "cli/generate.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "base/error.h"
#include "cli/command_observer.h"
#include "cli/continue_hint.h"
#include "cli/flag_names.h"
#include "cli/interrupt.h"
#include "cli/job_inputs.h"
#include "cli/progress_display.h"
#include "cli/request_flags.h"
#include "cli/terminal.h"
#include "job/bundled.h"
#include "job/output_path.h"

namespace mochi::cli {
namespace {

namespace fs = std::filesystem;

// Shows progress and warnings, and ends the work when a signal has arrived.
class RunObserver : public job::JobObserver {
 public:
  explicit RunObserver(bool is_quiet) : is_quiet_(is_quiet), display_(display_style(is_quiet)) {}

  bool on_progress(const Progress& progress) override {
    display_.show(progress);
    return !was_interrupted();
  }
  // Also advances the clock.
  bool should_stop() override {
    display_.tick();
    return was_interrupted();
  }
  void on_warning(std::string_view text) override {
    if (!is_quiet_) tell("warning: {}", text);
  }
  void on_kept(const job::Kept& kept) override { kept_ = kept; }

  const std::optional<job::Kept>& kept() const { return kept_; }

 private:
  bool is_quiet_;
  ProgressDisplay display_;
  std::optional<job::Kept> kept_;
};

void print_summary(const job::Outcome& outcome) {
  tell_summary("{} ({}x{}, {} frames, {} fps)", outcome.output.string(), outcome.size.width,
               outcome.size.height, outcome.size.num_frames, format_frame_rate(outcome.fps));
  std::string times;
  for (const auto& [phase, seconds] : outcome.seconds) {
    times += fmt::format("{} {}, ", name_of(phase), format_seconds(seconds));
  }
  constexpr double kMebibyte = 1024.0 * 1024.0;
  std::string on_gpu;
  if (outcome.peak_device_bytes > 0) {
    on_gpu = fmt::format(", on the GPU {:.0f} MiB",
                         static_cast<double>(outcome.peak_device_bytes) / kMebibyte);
  }
  tell_summary("{}in all {}; peak memory {:.0f} MiB{}", times,
               format_seconds(outcome.total_seconds),
               static_cast<double>(outcome.peak_memory_bytes) / kMebibyte, on_gpu);
}

bool names_model(const EngineOptions& engine) {
  return !engine.model_dir.empty() || has_any(engine.paths);
}

class GenerateRun {
 public:
  explicit GenerateRun(const GenerateOptions& given)
      : given_(given),
        inputs_(read_inputs(given)),
        engine_(open_engine()),
        run_(engine_, was_interrupted),
        warnings_(given.run.is_quiet, given.run.is_verbose) {
    check_model();
    add_input_files();
    for (job::JobInput& input : inputs_.videos) {
      input.options.engine.model_dir = engine_options_.model_dir;
      jobs_.push_back(job::prepare_job(std::move(input), engine_.model(), run_));
      warn(jobs_.back());
    }
  }

  void run() {
    announce_device();
    if (!given_.run.sweep_file) return make(jobs_.front());
    std::vector<std::string> failed;
    for (std::size_t i = 0; i < jobs_.size(); ++i) run_line(i, failed);
    if (failed.empty()) return;
    fail("{} of {} videos failed: {}; to try them again: {}", failed.size(), jobs_.size(),
         fmt::join(failed, ", "), resuming_command(given_.run.command));
  }

 private:
  Engine open_engine() {
    engine_options_ = inputs_.videos.front().options.engine;
    job::choose_model(engine_options_);
    engine_options_.on_message = message_printer(given_.run.is_quiet, given_.run.is_verbose);
    return Engine(engine_options_);
  }

  void add_input_files() {
    if (given_.run.sweep_file) run_.inputs.add(*given_.run.sweep_file, "the sweep file");
    if (!given_.run.recipe) return;
    // A video that is made again in its own place keeps the JSON that it was made from.
    std::error_code ignored;
    const fs::path own = given_.job.output ? job::sidecar_path(*given_.job.output) : "";
    if (fs::equivalent(own, *given_.run.recipe, ignored)) return;
    run_.inputs.add(*given_.run.recipe, "the JSON that the video is made from");
  }

  // Another model may make a similar video, but it cannot continue or decode this one.
  void check_model() const {
    if (!inputs_.recipe) return;
    if (given_.job.latents_file) {
      job::check_decoder(*inputs_.recipe, run_.with.model_files);
    } else if (given_.run.resumes || !names_model(given_.job.engine)) {
      job::check_model_files(*inputs_.recipe, run_.with.model_files);
    }
  }

  void warn(const job::Job& job) {
    if (job.is_done) return;
    warnings_.tell(job.input.options.request, job.resolved);
    if (!given_.run.is_quiet && !job.note.empty()) tell("{}", job.note);
  }

  // Prints why the run does not use a GPU.
  void announce_device() const {
    const std::string& note = run_.with.engine.device_note;
    if (!given_.run.is_quiet && !note.empty()) tell("running on the CPU: {}", note);
  }

  // Prints which video of many this is, and its prompt if none was given.
  void announce(const job::Job& job, std::size_t job_idx) const {
    if (given_.run.is_quiet) return;
    const std::string& prompt = job.resolved.generate.prompt;
    if (jobs_.size() > 1) {
      tell("video {} of {}: {}", job_idx + 1, jobs_.size(), job.is_done ? "already made" : prompt);
    } else if (!job.input.options.request.prompt && !job.input.options.latents_file) {
      tell("no --prompt given, showing: {}", prompt);
    }
  }

  // A video that fails does not end the others.
  void run_line(std::size_t job_idx, std::vector<std::string>& failed) {
    job::Job& job = jobs_[job_idx];
    announce(job, job_idx);
    if (job.is_done) return;
    try {
      make(job);
    } catch (const Cancelled&) {
      if (!given_.run.is_quiet) tell("to continue: {}", resuming_command(given_.run.command));
      throw;
    } catch (const std::exception& error) {
      tell("mochi: {}: {}", job.input.source.name, describe_exception(error));
      failed.push_back(job.input.source.name);
    }
    job.resolved.latents = {};
    job.reserved.reset();
  }

  void make(const job::Job& job) {
    if (!given_.run.sweep_file) announce(job, 0);
    RunObserver observer(given_.run.is_quiet);
    try {
      print(job::run_job(job, engine_, observer, {".", fs::temp_directory_path()}));
    } catch (const Cancelled&) {
      if (observer.kept() && !given_.run.is_quiet) {
        tell("{}", continue_hint(*observer.kept(), job, given_));
      }
      throw;
    } catch (const std::exception& error) {
      const std::string more = describe_help(error, job);
      if (!observer.kept() && more.empty()) throw;
      const std::string hint =
          observer.kept() ? "; " + continue_hint(*observer.kept(), job, given_) : "";
      fail("{}{}{}", describe_exception(error), more, hint);
    }
  }

  static std::string describe_help(const std::exception& error, const job::Job& job) {
    const bool is_not_finite = dynamic_cast<const NotFinite*>(&error) != nullptr;
    return is_not_finite && !job.input.options.checks_finite ? "; --check-nan names the layer" : "";
  }

  void print(const job::Outcome& outcome) const {
    if (given_.run.prints_json) {
      print_result(outcome.sidecar.dump() + "\n");
    } else if (!given_.run.is_quiet) {
      print_summary(outcome);
    }
  }

  const GenerateOptions& given_;
  RunInputs inputs_;
  EngineOptions engine_options_;
  Engine engine_;
  job::Run run_;
  RequestWarnings warnings_;
  std::vector<job::Job> jobs_;
};

}  // namespace

void run_generate(const GenerateOptions& options) { GenerateRun(options).run(); }

}  // namespace mochi::cli
