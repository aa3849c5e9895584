// Describes a model folder or a file of weights without loading it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "mochi/error.h"
#include "mochi/mochi.h"

namespace mochi {

// One network: what it should hold by its sizes, and what was found.
struct ComponentReport {
  std::string name;                // "transformer"
  std::vector<std::string> files;  // paths
  std::string layout;  // "diffusers", "ComfyUI, below 'vae.'; 8-bit weights with scales"
  std::vector<std::pair<std::string, std::string>> sizes;  // "depth" → "48", ...
  std::int64_t num_tensors = 0;                            // as stored
  std::int64_t num_parameters = 0;
  std::uint64_t stored_bytes = 0;
  std::map<std::string, std::int64_t> parameters_by_dtype;  // "BF16" → number of parameters
  std::vector<std::string> missing;                         // names
  std::vector<std::string> unexpected;                      // names
  std::vector<std::string> wrong;  // one problem per tensor, which it names

  bool is_complete() const { return missing.empty() && wrong.empty(); }
};

// A LoRA: what it changes, and how strongly.
struct LoraReport {
  std::string file;                                 // path
  std::map<std::string, std::int64_t> num_by_kind;  // "DoRA" → number of weights or biases
  std::vector<std::string>
      spellings;  // whose names the file has: "kohya"; the distinct ones, sorted
  std::int64_t num_layers = 0;
  // The distinct ranks of all layers, sorted; without layers that have whole matrices.
  std::vector<std::int64_t> ranks;
  std::vector<double> alphas;       // the distinct stated alphas, sorted; empty if none is stated
  bool has_default_alphas = false;  // some layers' alpha is not stated: it is their rank
  std::int64_t num_parameters = 0;
  std::uint64_t stored_bytes = 0;
};

struct StoredTensor {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> sizes;
};

struct InspectReport {
  bool has_config_file = false;             // else the sizes come from the tensors' shapes
  std::vector<ComponentReport> components;  // those found
  std::vector<std::string> not_found;       // names of networks, "tokenizer"
  // Why networks cannot be used although there are files for them, one line each.
  std::vector<std::string> problems;
  std::set<ModelPart> missing_parts;  // likewise
  std::vector<std::string> notes;     // choices between several copies of a network
  std::string tokenizer;              // path; empty if there is none
  std::optional<LoraReport> lora;     // instead of networks
  std::vector<StoredTensor> tensors;  // all tensors of the file, or of the folder's networks
};

// `path` is a model folder, a .safetensors file (of a network or a LoRA), a .gguf file, an index of
// shards, or a folder in which PEFT has saved a LoRA. Throws std::runtime_error when it does not
// exist or is damaged.
InspectReport inspect_model(const std::filesystem::path& path);

// The model that an engine with these options would have: `paths` replace parts of the folder,
// which may be empty. Throws InvalidRequest if one of the paths is wrong.
InspectReport inspect_model(const std::filesystem::path& model_dir, const ModelPaths& paths);

}  // namespace mochi
