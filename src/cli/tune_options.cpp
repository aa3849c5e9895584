#include "cli/tune_options.h"

#include <CLI/CLI.hpp>

#include "cli/generate_options.h"
#include "cli/request_flags.h"

namespace mochi::cli {

void add_tune_flags(CLI::App& command, TuneOptions& options) {
  constexpr const char* kGroup = "The search";
  command
      .add_option("--min-psnr", options.min_psnr,
                  "wanted PSNR against the dense videos in dB, mean over the prompts")
      ->required()
      ->group(kGroup);
  command
      .add_option("--prompts", options.prompts, "file with one prompt per line; # begins a comment")
      ->type_name("FILE")
      ->required()
      ->group(kGroup);
  command
      .add_option("--out,--output", options.output,
                  "folder of the report and of the trials (also --output)")
      ->type_name("DIR")
      ->required()
      ->group(kGroup);
  command
      .add_option("--chipmunk-config", options.start,
                  "sparse attention that the search starts from (default: the bundled settings)")
      ->type_name("FILE")
      ->group(kGroup);
  command
      .add_option_function<std::string>(
          "--search",
          // The value is one of the choices: read_arguments() has looked.
          [&options](const std::string& text) {
            options.scope = study::parse_search_scope(text).value();
          },
          "step skipping, sparse attention, or both together")
      ->type_name("both|skipping|sparsity")
      ->default_str("both")
      ->group(kGroup);
  command.add_option("--max-trials", options.max_trials, "configurations to try at most")
      ->capture_default_str()
      ->group(kGroup);
  command.add_flag("--resume", options.resumes, "continue the search whose folder this is")
      ->group(kGroup);
  add_request_flags(command, options.generation.request, {job::Offer::kAlways});
  add_engine_flags(command, options.generation.engine);
  command.add_flag("--quiet", options.is_quiet, "print errors only");
  command.add_flag("--verbose", options.is_verbose, "also print details of how the engine works");
}

}  // namespace mochi::cli
