// Requests as JSON: the lines of a sweep file, and what the JSON beside a video says.
#pragma once

#include "cli/generate_options.h"
#include "io/json.h"

namespace mochi::cli {

// Reads prompt, negative_prompt, width, height, num_frames, seed, num_steps, cfg_scale,
// cfg_schedule, threshold_noise, linear_steps and noise_source where they are there. The other keys
// are the caller's.
void read_request_fields(JsonReader& reader, GenerateOptions& options);

}  // namespace mochi::cli
