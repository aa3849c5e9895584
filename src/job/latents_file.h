// Latents on disk: a safetensors file with one F32 tensor "latents" [1, channels, T, H, W],
// normalised as the sampler sees them. Start noise takes the same form. A checkpoint of a sparse
// generation also holds its caches, as "cache.NAME". Files that the program writes carry a checksum
// over tensors and metadata, and the recipe of the video that the latents belong to.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "io/json.h"
#include "mochi/mochi.h"

namespace mochi::job {

struct LatentsFile {
  Latents latents;
  std::vector<CachedTensor> caches;  // checkpoints only
  std::map<std::string, std::string> metadata;
  bool has_checksum = false;  // and it is right

  // Returns nothing if the file states none.
  std::optional<Json> recipe(const std::filesystem::path& path) const;
};

// Throws Error naming the file, what was wanted and what was found; also where the checksum does
// not fit the content.
LatentsFile read_latents_file(const std::filesystem::path& path);

// The latents alone. Throws Error when the file also has caches.
Latents read_latents(const std::filesystem::path& path);

// The file appears whole, in place of an earlier one.
void write_latents_file(const std::filesystem::path& path, const Latents& latents,
                        std::map<std::string, std::string> metadata = {},
                        const std::vector<CachedTensor>& caches = {},
                        const StopFn& should_stop = {});

// Writes the recipe of the video, too. Waiting for the reader of a named pipe ends with Cancelled
// when should_stop says so.
void write_latents(const std::filesystem::path& path, const Latents& latents,
                   const nlohmann::ordered_json& recipe, const StopFn& should_stop = {});

}  // namespace mochi::job
