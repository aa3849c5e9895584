// One video of a run, from what was asked for to what lies on the disk.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "cli/checkpoint_file.h"
#include "cli/generate_options.h"
#include "cli/sidecar.h"

namespace mochi::cli {

struct VideoJob {
  GenerateOptions options;
  std::string source;  // "sweep.jsonl:3": where the options come from; empty: the command line
  std::optional<SamplingCheckpoint> checkpoint;  // go on from here
  Latents latents;                               // the size; values when they are read from a file
  Outcome outcome;
};

// The part of prepare() that is not about the output: the request, the size, what made it.
void prepare_request(VideoJob& job, const Engine& engine);

// Checks everything that can be checked before the work begins, and decides where the video goes:
// to none of `taken`, which it joins. Throws UsageError where a flag is at fault, Error naming the
// line or file elsewhere.
void prepare(VideoJob& job, const Engine& engine, std::set<std::filesystem::path>& taken);

// Samples, decodes and writes; completes job.outcome but for the memory. Throws Cancelled when a
// signal came; a checkpoint is written before that if the options want any.
void run(VideoJob& job, Engine& engine);

}  // namespace mochi::cli
