// The files of a model folder that may hold networks.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/stored_source.h"

namespace mochi {

// "model-00002-of-00005.safetensors": stem "model", number 2 of 5.
struct ShardName {
  std::string stem;
  std::size_t count = 0;
};
std::optional<ShardName> parse_shard(const std::filesystem::path& path);

// A checkpoint as users name it: a file, or the index of a sharded one. Opened, or with the reason
// why it cannot be.
struct Candidate {
  std::filesystem::path path;
  // Without an index: all files "x-00001-of-00003.safetensors", and how many their names promise.
  std::vector<std::filesystem::path> shards = {};
  std::size_t num_shards = 0;
  std::shared_ptr<StoredSource> file = nullptr;
  std::string problem = {};
  // Parts of it are missing, as after a download of other files: any other copy goes before it.
  bool is_partial = false;
  // It lies in a folder of ComfyUI's, among files of other models: its name says nothing, and if it
  // cannot be read, it is probably one of those.
  bool is_shared = false;
};

// Returns what is left of ".safetensors" or ".gguf" in the name of a file; all of it if it has
// neither.
std::string weights_stem(const std::string& name);

// Returns the model folder that a file or folder of a network lies in; empty for an empty path.
std::filesystem::path model_folder_of(const std::filesystem::path& path);

// Finds the files in a model folder, in its folders of diffusers' layout, and in those of ComfyUI,
// which may be below a folder `models`. Reads the headers of all files; hidden files are passed
// over.
std::vector<Candidate> find_candidates(const std::filesystem::path& model_folder);

// Finds the files in a folder as find_candidates() does; a file is the only candidate.
std::vector<Candidate> find_candidates_at(const std::filesystem::path& path);

}  // namespace mochi
