// A sampling that stopped half-way, on disk: a latents file whose metadata hold the number of
// steps done and the recipe of the video.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/json.h"
#include "mochi/mochi.h"

namespace mochi::job {

struct SamplingCheckpoint {
  SamplerState state;
  Json recipe;
};

// Throws Error naming the file, what was wanted and what was found; also for damaged files.
SamplingCheckpoint read_checkpoint(const std::filesystem::path& path);

// Returns true if the file is a checkpoint, judged by its metadata.
bool is_checkpoint(const std::filesystem::path& path);

// The file appears whole, in place of an earlier one.
void write_checkpoint(const std::filesystem::path& path, const SamplerState& state,
                      const nlohmann::ordered_json& recipe);

}  // namespace mochi::job
