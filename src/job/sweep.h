// A sweep file: one JSON object per line, each the options of one video.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/stop.h"
#include "job/job_options.h"

namespace mochi::job {

// Returns `base`, overlaid with the values of one line. Its keys are the request's fields, out and
// save_latents. `source` names the line in errors. Throws Error naming the key.
JobOptions parse_sweep_line(const std::string& line, const std::string& source,
                            const JobOptions& base);

struct SweepVideo {
  std::string source;  // "sweep.jsonl:3", for messages
  Request own;         // the values that the line states
  JobOptions options;
};

// Returns all lines except empty ones, of a file or a pipe. Throws Error naming file and line, also
// if there are none.
std::vector<SweepVideo> read_sweep_file(const std::filesystem::path& path, const JobOptions& base,
                                        const StopFn& should_stop = {});

}  // namespace mochi::job
