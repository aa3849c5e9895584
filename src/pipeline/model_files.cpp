#include "pipeline/model_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "io/checkpoint.h"
#include "io/json.h"
#include "pipeline/networks.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFileEnding = ".safetensors";
constexpr std::string_view kIndexEnding = ".index.json";
// Endings that programs append to the name of a file while they download it.
constexpr std::array<std::string_view, 6> kPartEndings{".part",       ".incomplete", ".aria2",
                                                       ".crdownload", ".download",   ".tmp"};

// Folders inside a model folder that contain networks; "" is the folder itself.
constexpr std::array<std::string_view, 4> kSubfolders{"", "text_encoder", "transformer", "vae"};

// A checkpoint as users name it: a file, or the index of a sharded one. Opened, or with the reason
// why it cannot be.
struct Candidate {
  fs::path path;
  // Without an index: all files "x-00001-of-00003.safetensors", and how many their names promise.
  std::vector<fs::path> shards = {};
  std::size_t num_shards = 0;
  std::shared_ptr<StoredSource> file = nullptr;
  std::string problem = {};
  // Parts of it are missing, as after a download of other files: any other copy goes before it.
  bool is_partial = false;
};

// "model-00002-of-00005.safetensors": stem "model", number 2 of 5.
struct ShardName {
  std::string stem;
  std::size_t count = 0;
};

std::optional<ShardName> parse_shard(const fs::path& path) {
  const std::string stem = path.stem().string();
  const std::size_t of = stem.rfind("-of-");
  const std::size_t dash = of == std::string::npos || of == 0 ? of : stem.rfind('-', of - 1);
  if (of == std::string::npos || dash == std::string::npos) return std::nullopt;
  const std::string count = stem.substr(of + 4);
  const std::string digits = stem.substr(dash + 1, of - dash - 1) + count;
  constexpr std::size_t kMaxDigits = 9;
  if (digits.find_first_not_of("0123456789") != std::string::npos || count.empty() ||
      count.size() > kMaxDigits) {
    return std::nullopt;
  }
  return ShardName{stem.substr(0, dash), static_cast<std::size_t>(std::stoul(count))};
}

// Names of the files an index leads to. What is wrong with it is reported when it is opened.
std::set<std::string> shards_of_index(const fs::path& index_path) {
  std::set<std::string> shards;
  try {
    const Json index = read_json(index_path);
    if (!index.is_object() || !index.contains("weight_map")) return shards;
    for (const auto& [name, shard] : index["weight_map"].items()) {
      if (shard.is_string()) shards.insert(shard.get<std::string>());
    }
  } catch (const Error&) {
    shards.clear();
  }
  return shards;
}

// "dit.safetensors.part"
bool is_partial_download(const std::string& name) {
  return name.find(kFileEnding) != std::string::npos &&
         std::ranges::any_of(kPartEndings,
                             [&](std::string_view ending) { return name.ends_with(ending); });
}

// The files of a folder, sorted into what they may be.
struct Listing {
  std::vector<fs::path> files;    // *.safetensors
  std::vector<fs::path> indices;  // *.index.json
  std::vector<Candidate> broken;  // dangling links, partial downloads
};

Listing list_folder(const fs::path& folder) {
  Listing listing;
  std::error_code error;
  const fs::directory_iterator entries(folder, error);
  if (error) fail("cannot read folder '{}': {}", folder.string(), describe_errno(error.value()));
  for (const fs::directory_entry& entry : entries) {
    const fs::path& path = entry.path();
    const std::string name = path.filename().string();
    if (name.starts_with('.')) continue;
    std::error_code ignored;
    if (is_partial_download(name)) {
      listing.broken.push_back(
          {.path = path,
           .problem = fmt::format("'{}' is a download that did not finish", path.string()),
           .is_partial = true});
    } else if (!name.ends_with(kFileEnding) && !name.ends_with(kIndexEnding)) {
      continue;
    } else if (!entry.exists(ignored)) {
      listing.broken.push_back(
          {.path = path,
           .problem = fmt::format("'{}' is {}", path.string(), describe_file_kind(path))});
    } else if (entry.is_regular_file(ignored)) {
      (name.ends_with(kFileEnding) ? listing.files : listing.indices).push_back(path);
    }
  }
  std::ranges::sort(listing.files);
  return listing;
}

bool lacks_shards(const Candidate& candidate) {
  if (!candidate.shards.empty()) return candidate.num_shards != candidate.shards.size();
  if (!candidate.path.string().ends_with(kIndexEnding)) return false;
  return std::ranges::any_of(shards_of_index(candidate.path), [&](const std::string& shard) {
    std::error_code ignored;
    return !fs::exists(candidate.path.parent_path() / shard, ignored);
  });
}

void open(Candidate& candidate) {
  candidate.is_partial = lacks_shards(candidate);
  try {
    const std::vector<fs::path>& shards = candidate.shards;
    if (candidate.is_partial && !shards.empty()) {
      fail("'{}' is one of {} shards, and there are {} of them", candidate.path.string(),
           candidate.num_shards, shards.size());
    }
    candidate.file = shards.empty() ? open_weights(candidate.path) : Checkpoint::open_files(shards);
  } catch (const Error& error) {
    candidate.problem = error.what();
  }
}

std::vector<Candidate> find_candidates(const fs::path& folder) {
  Listing listing = list_folder(folder);
  std::vector<Candidate> candidates = std::move(listing.broken);
  std::set<std::string> indexed;
  for (const fs::path& index : listing.indices) {
    candidates.push_back({.path = index});
    indexed.merge(shards_of_index(index));
  }
  std::map<std::string, Candidate> sharded;
  for (const fs::path& file : listing.files) {
    if (indexed.contains(file.filename().string())) continue;
    if (const auto shard = parse_shard(file)) {
      Candidate& candidate = sharded[shard->stem];
      if (candidate.shards.empty()) candidate.path = file;
      candidate.num_shards = shard->count;
      candidate.shards.push_back(file);
    } else {
      candidates.push_back({.path = file});
    }
  }
  for (auto& [stem, candidate] : sharded) candidates.push_back(std::move(candidate));
  std::ranges::sort(candidates, {}, &Candidate::path);
  for (Candidate& candidate : candidates) {
    if (candidate.problem.empty()) open(candidate);
  }
  return candidates;
}

// 0 for the names model folders use, 1 for other ones, 2 for variants ("model.fp16..."): of
// several files with the same network the lowest wins.
int rank_of(const fs::path& path, Component component) {
  const std::string name = path.filename().string();
  const std::string stem = name.substr(0, name.find(kFileEnding));
  const std::optional<ShardName> shard = parse_shard(stem + ".x");
  static const std::map<Component, std::set<std::string>> usual{
      {Component::kTextEncoder, {"model"}},
      {Component::kDit, {"dit", "diffusion_pytorch_model"}},
      {Component::kDecoder, {"decoder", "diffusion_pytorch_model"}},
      {Component::kEncoder, {"encoder", "diffusion_pytorch_model"}},
  };
  if (usual.at(component).contains(shard ? shard->stem : stem)) return 0;
  return stem.find('.') == std::string::npos ? 1 : 2;
}

// Returns true if a file that cannot be read may be this network, judged by its name and folder.
bool may_be(const fs::path& path, Component component) {
  const std::string place = path.parent_path().filename().string();
  const std::string name = path.filename().string();
  const auto has = [&](std::string_view word) { return name.find(word) != std::string::npos; };
  const bool is_text = place == "text_encoder" || has("t5") || has("text_encoder");
  const bool is_dit = place == "transformer" || has("dit") || has("transformer");
  const bool is_vae = place == "vae" || has("vae");
  switch (component) {
    case Component::kTextEncoder:
      if (is_text) return true;
      break;
    case Component::kDit:
      if (is_dit) return true;
      break;
    case Component::kDecoder:
      if (is_vae || has("decoder")) return true;
      break;
    case Component::kEncoder:
      if (is_vae || (has("encoder") && !is_text)) return true;
      break;
  }
  return !is_text && !is_dit && !is_vae && !has("decoder") && !has("encoder");
}

// Returns true if no tensor is missing that the sizes require, which the other tensors show.
bool is_whole(const std::shared_ptr<StoredSource>& network, Component component) {
  try {
    const ModelConfig config = infer_component_config(network, component);
    const auto source = with_original_keys(network, component, config.text_encoder);
    return std::ranges::all_of(parameters_of(config, component), [&](const auto& parameter) {
      return source->contains(parameter.first);
    });
  } catch (const Error&) {
    return false;
  }
}

// A network that a candidate holds.
struct Copy {
  const fs::path* path = nullptr;
  std::shared_ptr<StoredSource> network;
};

// Chooses between copies whose names are equally good: complete ones first, then the original
// layout.
std::vector<Copy> prefer(std::vector<Copy> copies, Component component) {
  const auto keep = [&](const auto& is_better) {
    if (copies.size() > 1 && std::ranges::any_of(copies, is_better)) {
      std::erase_if(copies, [&](const Copy& copy) { return !is_better(copy); });
    }
  };
  keep([&](const Copy& copy) { return is_whole(copy.network, component); });
  keep([&](const Copy& copy) { return !is_diffusers_layout(*copy.network, component); });
  return copies;
}

void choose(const std::vector<Candidate>& candidates, Component component, ModelFiles& files) {
  constexpr int kNone = 3;
  constexpr int kPartial = kNone;
  int best = kNone;
  int best_broken = kPartial + 1;
  const Candidate* broken = nullptr;
  std::vector<Copy> copies;
  for (const Candidate& candidate : candidates) {
    const int rank = candidate.is_partial ? kPartial : rank_of(candidate.path, component);
    if (candidate.file == nullptr) {
      if (!may_be(candidate.path, component) || rank >= best_broken) continue;
      best_broken = rank;
      broken = &candidate;
      continue;
    }
    std::shared_ptr<StoredSource> network = find_component(candidate.file, component);
    if (network == nullptr || rank > best) continue;
    if (rank < best) copies.clear();
    best = rank;
    copies.push_back({&candidate.path, std::move(network)});
  }
  // The file that would have been taken cannot be read: another one may be another model.
  if (broken != nullptr && (best_broken < best || copies.empty())) {
    files.problems[component] = broken->problem;
    return;
  }
  if (copies.empty()) return;
  const std::vector<Copy> chosen = prefer(copies, component);
  if (chosen.size() > 1) {
    files.problems[component] =
        fmt::format("there are two files of the {}: '{}' and '{}'; keep one of them",
                    component_name(component), chosen[0].path->string(), chosen[1].path->string());
    return;
  }
  files.networks[component] = chosen.front().network;
  if (copies.size() > 1) {
    files.notes.push_back(fmt::format("there are {} copies of the {}: '{}' is used", copies.size(),
                                      component_name(component), chosen.front().path->string()));
  }
}

}  // namespace

bool is_model_subfolder(const std::string& name) {
  return !name.empty() && std::ranges::find(kSubfolders, name) != kSubfolders.end();
}

ModelFiles find_model_files(const fs::path& folder) {
  std::vector<Candidate> candidates;
  for (const std::string_view subfolder : kSubfolders) {
    std::error_code ignored;
    if (!fs::is_directory(folder / subfolder, ignored)) continue;
    for (Candidate& candidate : find_candidates(folder / subfolder)) {
      candidates.push_back(std::move(candidate));
    }
  }
  ModelFiles files;
  for (const Component component : kAllComponents) choose(candidates, component, files);
  return files;
}

}  // namespace mochi
