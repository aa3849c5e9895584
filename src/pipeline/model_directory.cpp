#include "pipeline/model_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "dit/diffusers_layout.h"
#include "io/json.h"
#include "text/t5_weights.h"
#include "vae/diffusers_layout.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFileEnding = ".safetensors";
constexpr std::string_view kIndexEnding = ".index.json";

// Folders inside a model directory that hold networks; "" is the directory itself.
constexpr std::array<std::string_view, 4> kSubfolders{"", "text_encoder", "transformer", "vae"};
constexpr std::array kTokenizerPlaces{"tokenizer/spiece.model", "spiece.model",
                                      "text_encoder/spiece.model"};

// A checkpoint as users name it: a file, or the index of a sharded one.
struct Candidate {
  fs::path path;
  std::vector<fs::path> shards;  // without an index: all of "x-00001-of-00003.safetensors", ...
};

bool ends_with(const fs::path& path, std::string_view ending) {
  return path.filename().string().ends_with(ending);
}

// "model" of "model-00002-of-00005.safetensors"; nothing for a file that is no shard.
std::optional<std::string> shard_stem(const fs::path& path) {
  const std::string stem = path.stem().string();
  const std::size_t of = stem.rfind("-of-");
  const std::size_t dash = of == std::string::npos || of == 0 ? of : stem.rfind('-', of - 1);
  if (of == std::string::npos || dash == std::string::npos) return std::nullopt;
  const std::string digits = stem.substr(dash + 1, of - dash - 1) + stem.substr(of + 4);
  const bool is_number = digits.find_first_not_of("0123456789") == std::string::npos;
  return is_number ? std::optional(stem.substr(0, dash)) : std::nullopt;
}

// Names of the files an index leads to. What is wrong with it is reported when it is opened.
std::set<std::string> shards_of_index(const fs::path& index_path) {
  std::set<std::string> shards;
  const Json index = read_json(index_path);
  if (!index.is_object() || !index.contains("weight_map")) return shards;
  for (const auto& [name, shard] : index["weight_map"].items()) {
    if (shard.is_string()) shards.insert(shard.get<std::string>());
  }
  return shards;
}

std::vector<Candidate> list_candidates(const fs::path& folder) {
  std::vector<fs::path> files;
  std::vector<Candidate> candidates;
  std::set<std::string> indexed;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    if (ends_with(entry.path(), kFileEnding)) files.push_back(entry.path());
    if (ends_with(entry.path(), kIndexEnding)) {
      candidates.push_back({entry.path(), {}});
      indexed.merge(shards_of_index(entry.path()));
    }
  }
  std::ranges::sort(files);
  std::map<std::string, Candidate> sharded;
  for (const fs::path& file : files) {
    if (indexed.contains(file.filename().string())) continue;
    if (const auto stem = shard_stem(file)) {
      Candidate& candidate = sharded[*stem];
      if (candidate.shards.empty()) candidate.path = file;
      candidate.shards.push_back(file);
    } else {
      candidates.push_back({file, {}});
    }
  }
  for (auto& [stem, candidate] : sharded) candidates.push_back(std::move(candidate));
  std::ranges::sort(candidates, {}, &Candidate::path);
  return candidates;
}

// 0 for the names model directories use, 1 for other ones, 2 for variants ("model.fp16..."): of
// several files with the same network the lowest wins.
int rank_of(const fs::path& path, Component component) {
  const std::string name = path.filename().string();
  const std::string stem = name.substr(0, name.find(kFileEnding));
  const std::string plain = shard_stem(path).value_or(stem);
  static const std::map<Component, std::set<std::string>> usual{
      {Component::kTextEncoder, {"model"}},
      {Component::kDit, {"dit", "diffusion_pytorch_model"}},
      {Component::kDecoder, {"decoder", "diffusion_pytorch_model"}},
      {Component::kEncoder, {"encoder", "diffusion_pytorch_model"}},
  };
  if (usual.at(component).contains(plain)) return 0;
  return stem.find('.') == std::string::npos ? 1 : 2;
}

std::string places_searched(const fs::path& folder) {
  return fmt::format("'{}' and its folders text_encoder, transformer and vae", folder.string());
}

}  // namespace

const char* component_name(Component component) {
  switch (component) {
    case Component::kTextEncoder:
      return "text encoder";
    case Component::kDit:
      return "transformer";
    case Component::kDecoder:
      return "video decoder";
    case Component::kEncoder:
      return "video encoder";
  }
  return "?";
}

bool is_model_subfolder(const std::string& name) {
  return !name.empty() && std::ranges::find(kSubfolders, name) != kSubfolders.end();
}

bool holds_component(const TensorSource& source, Component component) {
  switch (component) {
    case Component::kTextEncoder:
      return source.contains(t5_layer_prefix(0) + "0.SelfAttention.q.weight");
    case Component::kDit:
      return source.contains("x_embedder.proj.weight") || has_diffusers_dit_keys(source);
    case Component::kDecoder:
      return source.contains("blocks.0.0.weight") || has_diffusers_decoder_keys(source);
    case Component::kEncoder:
      return source.contains("layers.0.weight") || has_diffusers_encoder_keys(source);
  }
  return false;
}

std::shared_ptr<TensorSource> with_original_keys(std::shared_ptr<TensorSource> source,
                                                 Component component,
                                                 const TextEncoderConfig& text_config) {
  switch (component) {
    case Component::kTextEncoder:
      return make_t5_source(std::move(source), text_config);
    case Component::kDit:
      return with_original_dit_keys(std::move(source));
    case Component::kDecoder:
      return with_original_decoder_keys(std::move(source));
    case Component::kEncoder:
      return with_original_encoder_keys(std::move(source));
  }
  return source;
}

ModelConfig infer_component_config(const std::shared_ptr<TensorSource>& source,
                                   Component component) {
  ModelConfig config;
  if (component == Component::kTextEncoder) {
    config.text_encoder = infer_text_encoder_config(*source);
    return config;
  }
  const auto named = with_original_keys(source, component, config.text_encoder);
  if (component == Component::kDit) config.dit = infer_dit_config(*named);
  if (component == Component::kDecoder) config.vae = infer_vae_config(named.get(), nullptr);
  if (component == Component::kEncoder) config.vae = infer_vae_config(nullptr, named.get());
  return config;
}

ModelDirectory::ModelDirectory(fs::path path) : path_(std::move(path)) {
  std::error_code ignored;
  if (!fs::is_directory(path_, ignored)) {
    fail("model directory '{}' {}", path_.string(),
         fs::exists(path_, ignored) ? "is not a folder" : "does not exist");
  }
  find_checkpoints();
  read_config();
}

void ModelDirectory::find_checkpoints() {
  std::map<Component, int> ranks;
  std::map<Component, fs::path> chosen;
  for (const std::string_view subfolder : kSubfolders) {
    const fs::path folder = path_ / subfolder;
    if (!fs::is_directory(folder)) continue;
    for (const Candidate& candidate : list_candidates(folder)) {
      const std::shared_ptr<Checkpoint> checkpoint = candidate.shards.empty()
                                                         ? Checkpoint::open(candidate.path)
                                                         : Checkpoint::open_files(candidate.shards);
      for (const Component component : kAllComponents) {
        if (!holds_component(*checkpoint, component)) continue;
        const int rank = rank_of(candidate.path, component);
        const auto known = ranks.find(component);
        if (known != ranks.end() && known->second == rank) {
          fail("model directory '{}' holds two files of the {}: '{}' and '{}'; keep one of them",
               path_.string(), component_name(component), chosen[component].string(),
               candidate.path.string());
        }
        if (known != ranks.end() && known->second < rank) continue;
        ranks[component] = rank;
        chosen[component] = candidate.path;
        checkpoints_[component] = checkpoint;
      }
    }
  }
}

ModelDirectory ModelDirectory::with_random_weights(RandomWeights kind, const fs::path& path) {
  ModelDirectory directory;
  directory.has_random_weights_ = true;
  if (kind == RandomWeights::kConfig) {
    directory.path_ = path;
    directory.config_ = read_model_config(path / "config.json");
    directory.has_config_file_ = true;
  }
  return directory;
}

void ModelDirectory::read_config() {
  const fs::path config_path = path_ / "config.json";
  has_config_file_ = fs::exists(config_path);
  if (has_config_file_) {
    config_ = read_model_config(config_path);
    return;
  }
  try {
    infer_config();
  } catch (const Error& error) {
    fail("model directory '{}' has no config.json, and its tensors do not show its sizes: {}",
         path_.string(), error.what());
  }
}

void ModelDirectory::infer_config() {
  if (has(Component::kTextEncoder)) {
    config_.text_encoder = infer_text_encoder_config(*checkpoint(Component::kTextEncoder));
  }
  if (has(Component::kDit)) config_.dit = infer_dit_config(*open(Component::kDit));
  const auto decoder = has(Component::kDecoder) ? open(Component::kDecoder) : nullptr;
  const auto encoder = has(Component::kEncoder) ? open(Component::kEncoder) : nullptr;
  if (decoder || encoder) config_.vae = infer_vae_config(decoder.get(), encoder.get());
}

std::shared_ptr<Checkpoint> ModelDirectory::checkpoint(Component component) const {
  const auto found = checkpoints_.find(component);
  if (found == checkpoints_.end()) {
    fail("no {} found: looked for a *{} file that holds one in {}", component_name(component),
         kFileEnding, places_searched(path_));
  }
  return found->second;
}

std::shared_ptr<TensorSource> ModelDirectory::open(Component component) const {
  return with_original_keys(checkpoint(component), component, config_.text_encoder);
}

std::optional<fs::path> ModelDirectory::find_tokenizer() const {
  if (path_.empty()) return std::nullopt;
  for (const char* place : kTokenizerPlaces) {
    fs::path path = path_ / place;
    if (fs::exists(path)) return path;
  }
  return std::nullopt;
}

fs::path ModelDirectory::tokenizer() const {
  if (const auto path = find_tokenizer()) return *path;
  fail("no tokenizer found: looked for '{}' in '{}'", fmt::join(kTokenizerPlaces, "', '"),
       path_.string());
}

std::vector<fs::path> ModelDirectory::files() const {
  std::set<fs::path> files;
  for (const auto& [component, checkpoint] : checkpoints_) {
    for (const fs::path& file : checkpoint->files()) files.insert(file);
  }
  if (const auto path = find_tokenizer()) files.insert(*path);
  if (has_config_file_) files.insert(path_ / "config.json");
  return {files.begin(), files.end()};
}

}  // namespace mochi
