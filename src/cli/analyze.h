// `mochi analyze`: the effect and the cost of sparse attention and step skipping in one video.
#pragma once

#include "cli/generate_options.h"
#include "flags/cli11_fwd.h"

namespace mochi::cli {

// Declares the flags; they write into `options`, which must outlive the parsing. `output` is the
// report's folder.
void add_analyze_flags(CLI::App& command, GenerateOptions& options);

// Writes a folder with a report that appears whole or not at all. Throws UsageError for flags that
// do not fit, Error for all else, Cancelled when a signal came.
void run_analyze(GenerateOptions options);

}  // namespace mochi::cli
