// The videos of a run, from the command line and the files that it names.
#pragma once

#include <vector>

#include "cli/generate_options.h"
#include "job/job.h"

namespace mochi::cli {

struct RunInputs {
  std::vector<job::JobInput> videos;
  std::optional<job::Recipe> recipe;  // that the only video follows, or of the latents to decode
};

// Throws UsageError for flags that do not fit, Error naming the file otherwise.
RunInputs read_inputs(const GenerateOptions& given);

}  // namespace mochi::cli
