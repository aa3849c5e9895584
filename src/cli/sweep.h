// A sweep file: one JSON object a line, each the options of one video.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/generate_options.h"

namespace mochi::cli {

// The options of one line put over those of the command line. Keys are the flags' names, with
// underscores: prompt, negative_prompt, width, height, num_frames, seed, num_steps, cfg_scale,
// cfg_schedule, threshold_noise, linear_steps, noise_source, noise, chipmunk_config, no_sparsity,
// out, fps, save_latents. `source` names the line in errors. Throws Error naming the key.
GenerateOptions parse_sweep_line(const std::string& line, const std::string& source,
                                 const GenerateOptions& base);

struct SweepVideo {
  std::string source;  // "sweep.jsonl:3", for messages
  GenerateOptions options;
};

// All lines; empty ones are left out. Throws Error naming file and line; also when there is none.
std::vector<SweepVideo> read_sweep_file(const std::filesystem::path& path,
                                        const GenerateOptions& base);

}  // namespace mochi::cli
