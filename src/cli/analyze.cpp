#include "cli/analyze.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <string_view>

#include "base/atomic_file.h"
#include "base/memory_usage.h"
#include "base/subprocess.h"
#include "cli/output_path.h"
#include "study/analysis_page.h"
#include "study/analysis_run.h"
#include "study/analysis_tables.h"
#include "report/report_folder.h"
#include "cli/usage_error.h"
#include "cli/video_job.h"

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
  add_request_flags(command, options);
  add_sparsity_flag(command, options, "the sparsity (default: the one in the box)");
  command
      .add_option("--output", options.output, "folder of the report; an earlier one is replaced")
      ->type_name("DIR")
      ->required()
      ->group("Files");
  add_fps_flag(command, options);
  add_engine_flags(command, options.engine);
  add_lora_flags(command, options);
  add_report_flags(command, options, "report");
  command.callback([&options] { take_loras(options); });
}

void run_analyze(GenerateOptions options) {
  check_fps(options);
  choose_model(options.engine);
  if (!options.chipmunk_config) options.chipmunk_config = find_boxed_sparsity();
  Engine engine = open_engine(options.engine);
  VideoJob job;
  job.options = options;
  prepare_request(job, engine);
  job.outcome.output = options.output.value_or("");  // which the parser has found to be there
  ReportFolder report(job.outcome.output, kFileNames);
  const Analysis analysis =
      run_analysis(engine, job.outcome.request, job.outcome.fps,
                   find_video_folder(report, options.run.is_quiet), options.run.is_quiet);

  nlohmann::ordered_json json = describe_recipe(job.outcome, engine);
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
    fmt::print("{}\n", (job.outcome.output / "report.html").string());
  }
}

}  // namespace mochi::cli
