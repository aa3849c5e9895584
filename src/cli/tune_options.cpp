#include "cli/tune_options.h"

#include <CLI/CLI.hpp>

#include "cli/generate_options.h"
#include "cli/request_flags.h"

namespace mochi::cli {

void add_tune_flags(CLI::App& command, TuneOptions& options) {
  constexpr const char* kGroup = "The search";
  command
      .add_option("--min-psnr", options.min_psnr,
                  "dB against the dense videos, in the mean over the prompts")
      ->required()
      ->group(kGroup);
  command.add_option("--prompts", options.prompts, "one on each line; # begins a comment")
      ->type_name("FILE")
      ->required()
      ->group(kGroup);
  command.add_option("--output", options.output, "folder of the report and all else")
      ->type_name("DIR")
      ->required()
      ->group(kGroup);
  command
      .add_option("--chipmunk-config", options.start,
                  "where the search starts (default: as the file in the box)")
      ->type_name("FILE")
      ->group(kGroup);
  command.add_option("--max-trials", options.max_trials, "configurations to try at most")
      ->capture_default_str()
      ->group(kGroup);
  command.add_flag("--resume", options.resumes, "go on with what lies in the folder")
      ->group(kGroup);
  add_request_flags(command, options.generation.request, {job::Offer::kAlways});
  add_engine_flags(command, options.generation.engine);
  command.add_flag("--quiet", options.is_quiet, "print errors only");
}

}  // namespace mochi::cli
