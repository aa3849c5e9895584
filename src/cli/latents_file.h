// Latents on disk: a safetensors file with one F32 tensor "latents" [1, channels, T, H, W],
// normalised as the sampler sees them. Start noise takes the same form. A checkpoint of a sparse
// generation has its caches beside them, as "cache.NAME".
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "mochi/mochi.h"

namespace mochi::cli {

// Throws Error naming the file, what was wanted and what was found. A checkpoint's caches go to
// `caches`; without it they are refused.
Latents read_latents(const std::filesystem::path& path,
                     std::vector<CachedTensor>* caches = nullptr);

void write_latents(const std::filesystem::path& path, const Latents& latents,
                   const std::map<std::string, std::string>& metadata = {},
                   const std::vector<CachedTensor>& caches = {});

}  // namespace mochi::cli
