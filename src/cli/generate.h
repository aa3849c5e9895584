// `mochi generate`: a prompt (or saved latents) to a video.
#pragma once

#include "cli/generate_options.h"

namespace mochi::cli {

// Throws UsageError for flags that do not fit together or the model, Error for all else, Cancelled
// when a signal came.
void run_generate(const GenerateOptions& options);

}  // namespace mochi::cli
