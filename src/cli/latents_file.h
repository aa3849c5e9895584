// Latents on disk: a safetensors file with one F32 tensor "latents" [1, channels, T, H, W],
// normalised as the sampler sees them. Start noise takes the same form.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "mochi/mochi.h"

namespace mochi::cli {

// Throws Error naming the file, what was wanted and what was found.
Latents read_latents(const std::filesystem::path& path);

void write_latents(const std::filesystem::path& path, const Latents& latents,
                   const std::map<std::string, std::string>& metadata = {});

}  // namespace mochi::cli
