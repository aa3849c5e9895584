#include "cli/tune.h"

#include <fmt/format.h>

#include "base/error.h"
#include "cli/command_observer.h"
#include "cli/continue_hint.h"
#include "cli/terminal.h"
#include "flags/usage_error.h"
#include "job/bundled.h"
#include "job/job.h"
#include "job/prompts_file.h"
#include "job/resolve.h"
#include "study/tune.h"
#include "study/tune_report.h"

namespace mochi::cli {
namespace {

namespace fs = std::filesystem;

// Each trial has its own line; a bar shows the progress of the running sampling.
ProgressDisplay::Style bar_or_none(bool is_quiet) {
  const ProgressDisplay::Style style = display_style(is_quiet);
  return style == ProgressDisplay::Style::kBar ? style : ProgressDisplay::Style::kNone;
}

class SearchObserver : public study::TuneObserver {
 public:
  explicit SearchObserver(bool is_quiet) : is_quiet_(is_quiet), display_(bar_or_none(is_quiet)) {}

  bool on_progress(const Progress& progress) override {
    if (progress.phase != Phase::kDecoding) display_.show(progress);
    return true;
  }
  bool should_stop() override {
    display_.tick();
    return was_interrupted();
  }
  void on_warning(std::string_view text) override {
    if (!is_quiet_) tell("warning: {}", text);
  }
  void on_dense_video(std::size_t prompt_idx, std::size_t num_prompts, double seconds) override {
    if (is_quiet_) return;
    tell("dense video {} of {}: {}", prompt_idx + 1, num_prompts, format_seconds(seconds));
  }
  void on_trial(const study::TuneRecord& record, std::size_t trial_idx,
                double seconds_left) override {
    if (is_quiet_) return;
    const std::string left =
        seconds_left > 0 ? fmt::format("; at most {} left", format_clock(seconds_left)) : "";
    tell("{}{}", study::describe_progress(record, trial_idx), left);
  }

 private:
  bool is_quiet_;
  ProgressDisplay display_;
};

void check_flags(const TuneOptions& options) {
  if (!(options.min_psnr > 0 && options.min_psnr <= study::kMaxPsnr)) {
    throw flags::UsageError(fmt::format("--min-psnr: wanted above 0 to {}, found {}",
                                        study::kMaxPsnr, options.min_psnr));
  }
  if (options.max_trials < 1) {
    throw flags::UsageError(
        fmt::format("--max-trials: wanted 1 or more, found {}", options.max_trials));
  }
}

// Throws Error if a search exists and --resume is not given, or the other way round.
void check_record(const TuneOptions& options) {
  const fs::path record = study::record_path(options.output);
  if (fs::exists(record) == options.resumes) return;
  if (options.resumes) fail("--resume: '{}' does not exist", record.string());
  fail("'{}' already exists: continue with --resume, or give another --out", record.string());
}

SparsityConfig make_start(const TuneOptions& options, const study::Workload& workload) {
  const fs::path file = options.start ? *options.start : job::find_bundled_sparsity();
  const LoadedSparsity loaded = load_sparsity_config(file, was_interrupted);
  if (!options.is_quiet) {
    for (const std::string& warning : loaded.warnings) tell("warning: {}", warning);
  }
  const SparsityConfig& start = loaded.config;
  if (options.scope != study::SearchScope::kSkipping && !start.attn.is_enabled) {
    fail("'{}': attn.is_enabled: wanted true, or --search skipping, found false", file.string());
  }
  const bool fits = options.start && start.steps.value_or(workload.num_steps) == workload.num_steps;
  return fits ? start : study::fit_start(start, workload);
}

study::TuneTask make_task(const TuneOptions& options, std::vector<job::LinePrompt> prompts,
                          const ModelInfo& model) {
  const job::Resolved resolved = job::resolve(options.generation, model, {}, was_interrupted);
  study::TuneTask task{.base = resolved.generate,
                       .recipe = job::make_recipe(options.generation, resolved),
                       .prompts = std::move(prompts),
                       .start = {},
                       .scope = options.scope,
                       .min_psnr = options.min_psnr,
                       .max_trials = options.max_trials,
                       .folder = options.output,
                       .resumes = options.resumes};
  task.base.prompt.clear();
  task.recipe.request.prompt.reset();
  task.start = make_start(options, study::make_workload(task.base, model, task.scope));
  return task;
}

// Throws Error if no trial is good enough.
void report_results(const TuneOptions& options, const study::TuneRecord& record) {
  if (!options.is_quiet) {
    for (const std::string& line : study::make_summary(record)) tell_summary("{}", line);
  }
  const std::optional<std::size_t> fastest = record.fastest();
  if (!fastest) fail("no trial reaches {} dB; {}", options.min_psnr, study::describe_best(record));
  if (options.is_quiet) return;
  if (study::speed_up(record.trials[*fastest], record.dense_seconds()) <= 1) {
    tell("warning: that is no faster than dense attention at every step");
  }
  tell_summary("{}", study::config_path(options.output).string());
  tell_summary("report: {}", study::report_path(options.output).string());
}

}  // namespace

void run_tune(TuneOptions options) {
  check_flags(options);
  std::vector<job::LinePrompt> prompts = job::read_prompts(options.prompts, was_interrupted);
  EngineOptions& engine_options = options.generation.engine;
  job::choose_model(engine_options);
  engine_options.on_message = message_printer(options.is_quiet, options.is_verbose);
  Engine engine(engine_options);
  const study::TuneTask task = make_task(options, std::move(prompts), engine.model());
  check_record(options);
  SearchObserver observer(options.is_quiet);
  try {
    report_results(options, study::tune(engine, task, observer));
  } catch (const Cancelled&) {
    if (!options.is_quiet) tell("to continue: {}", resuming_command(options.command));
    throw;
  }
}

}  // namespace mochi::cli
