#include "cli/analyze.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <string_view>

#include "base/atomic_file.h"
#include "base/memory_usage.h"
#include "base/subprocess.h"
#include "cli/bundled.h"
#include "cli/command_observer.h"
#include "cli/request_flags.h"
#include "report/report_folder.h"
#include "study/analysis_page.h"
#include "study/analysis_run.h"
#include "study/analysis_tables.h"
#include "cli/usage_error.h"
#include "job/recipe.h"
#include "job/resolve.h"

namespace mochi::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 6> kFileNames{"report.html", "report.json", "sites.csv",
                                                     "steps.csv",   "dense.mp4",   "sparse.mp4"};

// Where videos go, or nowhere: without ffmpeg the rest of the report is of use, too.
fs::path find_video_folder(const ReportFolder& report, bool is_quiet) {
  if (find_program("ffmpeg")) return report.folder();
  if (!is_quiet) {
    fmt::print(stderr, "warning: the program ffmpeg was not found: no videos are written\n");
  }
  return {};
}

}  // namespace

void add_analyze_flags(CLI::App& command, GenerateOptions& options) {
  add_request_flags(command, options.job.request,
                    {job::Offer::kAlways, job::Offer::kPerVideo});
  add_field_flag(command, options.job.request, "chipmunk_config",
                 "sparsity configuration (default: the bundled one)");
  command
      .add_option("--output", options.job.output, "folder of the report; an earlier one is replaced")
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
  choose_model(options.job.engine);
  job::Request& request = options.job.request;
  if (!request.chipmunk_config) request.chipmunk_config = find_bundled_sparsity();
  options.job.engine.on_message = message_printer(options.run.is_quiet);
  Engine engine(options.job.engine);
  const job::Resolved resolved = job::resolve(options.job, engine.model());
  if (!options.run.is_quiet) tell_warnings(resolved);
  job::Recipe recipe = job::make_recipe(options.job, resolved);
  recipe.output = options.job.output.value_or("");  // the parser requires it
  ReportFolder report(recipe.output, kFileNames);
  const Analysis analysis =
      run_analysis(engine, resolved.generate, *recipe.request.fps,
                   find_video_folder(report, options.run.is_quiet), options.run.is_quiet);

  nlohmann::ordered_json json = job::describe_recipe(recipe, job::made_with(engine));
  const std::string page = make_analysis_page(analysis, json);
  json["analysis"] = describe_analysis(analysis);
  json["peak_memory_bytes"] = peak_memory_bytes();
  write_file_atomically(report.folder() / "report.html", page);
  write_file_atomically(report.folder() / "report.json", json.dump(2) + "\n");
  write_file_atomically(report.folder() / "sites.csv", make_sites_csv(analysis));
  write_file_atomically(report.folder() / "steps.csv", make_steps_csv(analysis));
  report.commit();
  if (options.run.prints_json) {
    fmt::print("{}\n", json.dump());
  } else if (!options.run.is_quiet) {
    for (const std::string& sentence : summarise_in_words(analysis)) fmt::print("{}\n", sentence);
    fmt::print("{}\n", (recipe.output / "report.html").string());
  }
}

}  // namespace mochi::cli
