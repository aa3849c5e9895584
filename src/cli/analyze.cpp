#include "cli/analyze.h"

#include <CLI/CLI.hpp>

#include "cli/command_observer.h"
#include "cli/request_flags.h"
#include "cli/terminal.h"
#include "job/bundled.h"
#include "job/job.h"
#include "job/recipe.h"
#include "job/resolve.h"
#include "study/analyze.h"

namespace mochi::cli {
namespace {

// Shows progress and warnings, and ends the analysis when a signal has arrived.
class AnalyzeObserver : public study::StudyObserver {
 public:
  explicit AnalyzeObserver(bool is_quiet)
      : is_quiet_(is_quiet), display_(display_style(is_quiet)) {}

  void on_part(std::string_view name) override {
    if (!is_quiet_) tell("{}", name);
  }
  bool on_progress(const Progress& progress) override {
    display_.show(progress);
    return true;
  }
  bool should_stop() override {
    display_.tick();
    return was_interrupted();
  }
  void on_warning(std::string_view text) override {
    if (!is_quiet_) tell("warning: {}", text);
  }

 private:
  bool is_quiet_;
  ProgressDisplay display_;
};

bool skips_steps(const job::Request& request) {
  return request.max_evaluations || request.skip.value_or(SkipTier::kOff) != SkipTier::kOff;
}

}  // namespace

void add_analyze_flags(CLI::App& command, GenerateOptions& options) {
  add_request_flags(command, options.job.request, {job::Offer::kAlways, job::Offer::kPerVideo});
  add_field_flag(command, options.job.request, "chipmunk_config",
                 "sparsity configuration (default: the bundled one, or none with --skip or "
                 "--max-evaluations)");
  add_field_flag(command, options.job.request, "skip");
  add_field_flag(command, options.job.request, "max_evaluations");
  command
      .add_option("--out,--output", options.job.output,
                  "folder of the report; an earlier report is replaced (also --output)")
      ->type_name("DIR")
      ->required()
      ->group("Files");
  add_request_flags(command, options.job.request, {job::Offer::kPlayback});
  add_engine_flags(command, options.job.engine);
  add_lora_flags(command, options);
  add_report_flags(command, options, "report");
  command.callback([&options] { take_loras(options); });
}

void run_analyze(GenerateOptions options) {
  if (options.run.prints_json) check_standard_output();
  job::choose_model(options.job.engine);
  job::Request& request = options.job.request;
  if (!request.chipmunk_config && !skips_steps(request)) {
    request.chipmunk_config = job::find_bundled_sparsity();
  }
  options.job.engine.on_message = message_printer(options.run.is_quiet, options.run.is_verbose);
  Engine engine(options.job.engine);
  const job::Resolved resolved = job::resolve(options.job, engine.model(), {}, was_interrupted);
  RequestWarnings(options.run.is_quiet, options.run.is_verbose).tell(request, resolved);
  job::Recipe recipe = job::make_recipe(options.job, resolved);
  recipe.output = options.job.output.value_or("");  // the parser requires it

  AnalyzeObserver observer(options.run.is_quiet);
  const study::AnalysisOutcome outcome =
      study::analyze(engine,
                     {.request = resolved.generate,
                      .fps = recipe.fps(),
                      .recipe = job::describe_recipe(recipe, job::made_with(engine)),
                      .folder = recipe.output},
                     observer);
  if (options.run.prints_json) {
    print_result(outcome.json.dump() + "\n");
  } else if (!options.run.is_quiet) {
    for (const std::string& sentence : outcome.words) tell_summary("{}", sentence);
    tell_summary("{}", outcome.page.string());
  }
}

}  // namespace mochi::cli
