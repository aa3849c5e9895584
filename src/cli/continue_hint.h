// How a run that ended early can be continued: commands that can be pasted.
#pragma once

#include <string>

#include "cli/generate_options.h"
#include "job/job.h"

namespace mochi::cli {

// "mochi decode v.mp4.latents.safetensors --out v.mp4 --fps 24", or "mochi generate --resume ...".
std::string continuing_command(const job::Kept& kept, const job::Job& job,
                               const GenerateOptions& given);

// Returns the words of a command line, with --resume added.
std::string resuming_command(std::vector<std::string> command);

// "the sampled latents are saved; to continue: ..."
std::string continue_hint(const job::Kept& kept, const job::Job& job, const GenerateOptions& given);

}  // namespace mochi::cli
