#include "pipeline/model_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "io/scaled_source.h"
#include "pipeline/model_candidates.h"
#include "pipeline/networks.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

// 0 for the names model folders use, 1 for other ones, 2 for variants ("model.fp16..."), 3 for
// files that count only if there is no other: of several files with the same network the lowest
// wins.
int rank_of(const Candidate& candidate, Component component) {
  constexpr int kOther = 1;
  constexpr int kPartial = 3;
  if (candidate.is_partial) return kPartial;
  if (candidate.is_shared) return candidate.file != nullptr ? kOther : kPartial;
  const fs::path& path = candidate.path;
  const std::string name = path.filename().string();
  const std::string stem = weights_stem(name);
  const std::optional<ShardName> shard = parse_shard(stem + ".x");
  static const std::map<Component, std::set<std::string>> usual{
      {Component::kTextEncoder, {"model"}},
      {Component::kDit, {"dit", "diffusion_pytorch_model"}},
      {Component::kDecoder, {"decoder", "diffusion_pytorch_model"}},
      {Component::kEncoder, {"encoder", "diffusion_pytorch_model"}},
  };
  if (usual.at(component).contains(shard ? shard->stem : stem)) return 0;
  return stem.find('.') == std::string::npos ? kOther : 2;
}

// Returns the name of the nearest folder above a file that says what belongs there; empty if none
// does. Users make further folders in those of ComfyUI.
std::string place_of(const Candidate& candidate) {
  static const std::set<std::string> places{
      "text_encoder", "text_encoders", "clip", "transformer", "diffusion_models", "unet", "vae"};
  fs::path folder = candidate.path.parent_path();
  const int num_levels = candidate.is_shared ? 3 : 1;
  for (int level = 0; level < num_levels; ++level, folder = folder.parent_path()) {
    if (places.contains(folder.filename().string())) return folder.filename().string();
  }
  return "";
}

// Returns true if a file that cannot be read may be this network, judged by its name and folder.
bool may_be(const Candidate& candidate, Component component) {
  const std::string place = place_of(candidate);
  const std::string name = candidate.path.filename().string();
  const auto has = [&](std::string_view word) { return name.find(word) != std::string::npos; };
  const bool is_text = place == "text_encoder" || place == "text_encoders" || place == "clip" ||
                       has("t5") || has("text_encoder");
  const bool is_dit = place == "transformer" || place == "diffusion_models" || place == "unet" ||
                      has("dit") || has("transformer");
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

// Returns why the engine does not read a network's weights as they are stored; empty if it does.
std::string find_refusal(const std::shared_ptr<StoredSource>& network) {
  try {
    with_scales(network);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// Returns true if no tensor is missing that the sizes require, which the other tensors show, and
// all of them have types that are read.
bool is_whole(const std::shared_ptr<StoredSource>& network, Component component) {
  try {
    const ModelConfig config = infer_component_config(network, component);
    const auto source = with_original_keys(network, component, config.text_encoder);
    return std::ranges::all_of(parameters_of(config, component), [&](const auto& parameter) {
      return source->contains(parameter.first) && source->info(parameter.first).has_values();
    });
  } catch (const Error&) {
    return false;
  }
}

// A network that a candidate holds.
struct Copy {
  const Candidate* candidate = nullptr;
  std::shared_ptr<StoredSource> network;
};

// Returns false if the file is one of these copies under another name.
bool is_new(const Candidate& candidate, const std::vector<Copy>& copies) {
  return std::ranges::none_of(copies, [&](const Copy& copy) {
    std::error_code ignored;
    return fs::equivalent(copy.candidate->path, candidate.path, ignored);
  });
}

std::uint64_t count_bytes(const StoredSource& network) {
  std::uint64_t num_bytes = 0;
  for (const std::string& name : network.names()) num_bytes += network.entry(name).bytes.size();
  return num_bytes;
}

// Returns how many networks the file of a copy holds.
std::ptrdiff_t count_networks(const Copy& copy) {
  return std::ranges::count_if(kAllComponents, [&](Component component) {
    return find_component(copy.candidate->file, component) != nullptr;
  });
}

// Keeps the copies for which `value` is largest.
template <typename Value>
void keep_largest(std::vector<Copy>& copies, const Value& value) {
  if (copies.size() < 2) return;
  std::vector<std::int64_t> values;
  values.reserve(copies.size());
  for (const Copy& copy : copies) values.push_back(static_cast<std::int64_t>(value(copy)));
  const std::int64_t largest = std::ranges::max(values);
  std::vector<Copy> kept;
  for (std::size_t i = 0; i < copies.size(); ++i) {
    if (values[i] == largest) kept.push_back(std::move(copies[i]));
  }
  copies = std::move(kept);
}

// Chooses between copies whose names are equally good: complete ones first, then the original
// layout, then the most precise one, then files without other networks.
std::vector<Copy> prefer(std::vector<Copy> copies, Component component) {
  keep_largest(copies, [&](const Copy& copy) { return is_whole(copy.network, component); });
  keep_largest(copies,
               [&](const Copy& copy) { return !is_diffusers_layout(*copy.network, component); });
  keep_largest(copies, [](const Copy& copy) { return count_bytes(*copy.network); });
  keep_largest(copies, [](const Copy& copy) { return -count_networks(copy); });
  return copies;
}

// The files that may be used for a network, and those that stand in the way.
struct Choice {
  static constexpr int kNone = 4;

  std::vector<Copy> copies;   // have the best rank
  std::size_t num_worse = 0;  // further files of this network
  int best = kNone;
  const Candidate* broken = nullptr;  // the best that cannot be read
  int best_broken = kNone;
  std::string refusal;  // why weights are not read as the first refused file has them
};

Choice list_copies(const std::vector<Candidate>& candidates, Component component) {
  Choice choice;
  for (const Candidate& candidate : candidates) {
    const int rank = rank_of(candidate, component);
    if (candidate.file == nullptr) {
      if (!may_be(candidate, component) || rank >= choice.best_broken) continue;
      choice.best_broken = rank;
      choice.broken = &candidate;
      continue;
    }
    std::shared_ptr<StoredSource> network = find_component(candidate.file, component);
    if (network == nullptr) continue;
    if (const std::string refusal = find_refusal(network); !refusal.empty()) {
      if (choice.refusal.empty()) choice.refusal = refusal;
      continue;
    }
    if (rank > choice.best) {
      ++choice.num_worse;
      continue;
    }
    if (rank < choice.best) {
      choice.num_worse += choice.copies.size();
      choice.copies.clear();
    }
    choice.best = rank;
    if (is_new(candidate, choice.copies)) choice.copies.push_back({&candidate, std::move(network)});
  }
  return choice;
}

void choose(const std::vector<Candidate>& candidates, Component component, ModelFiles& files) {
  const Choice choice = list_copies(candidates, component);
  const std::vector<Copy>& copies = choice.copies;
  // The file that would have been taken cannot be read: another one may be another model.
  if (choice.broken != nullptr && (choice.best_broken < choice.best || copies.empty())) {
    const Candidate& broken = *choice.broken;
    if (choice.refusal.empty() || !broken.is_shared) {
      (broken.is_shared ? files.bystanders : files.problems)[component] = broken.problem;
      return;
    }
  }
  const std::vector<Copy> chosen = prefer(copies, component);
  const bool is_blocked =
      !choice.refusal.empty() && (chosen.empty() || !is_whole(chosen.front().network, component));
  if (is_blocked) files.problems[component] = choice.refusal;
  if (is_blocked || chosen.empty()) return;
  if (chosen.size() > 1) {
    files.problems[component] = fmt::format(
        "there are two files of the {}: '{}' and '{}'; keep one of them, or choose one by its path",
        component_name(component), chosen[0].candidate->path.string(),
        chosen[1].candidate->path.string());
    return;
  }
  const std::string path = chosen.front().candidate->path.string();
  files.networks[component] = chosen.front().network;
  const std::size_t num_copies = copies.size() + choice.num_worse;
  if (num_copies > 1) {
    files.notes.push_back(fmt::format("there are {} files of the {}: '{}' is used", num_copies,
                                      component_name(component), path));
  }
  if (!choice.refusal.empty()) {
    files.notes.push_back(fmt::format("the {} in '{}' is used, because another one is not read: {}",
                                      component_name(component), path, choice.refusal));
  }
}

// ", but the text encoder and the video decoder"; empty if there is no network.
std::string describe_networks(const std::vector<Candidate>& candidates) {
  std::vector<std::string> names;
  for (const Component component : kAllComponents) {
    const bool is_found = std::ranges::any_of(candidates, [&](const Candidate& candidate) {
      return candidate.file != nullptr && find_component(candidate.file, component) != nullptr;
    });
    if (is_found) names.push_back(fmt::format("the {}", component_name(component)));
  }
  return names.empty() ? "" : fmt::format(", but {}", fmt::join(names, " and "));
}

}  // namespace

void replace_networks(const char* field, const fs::path& path,
                      std::span<const Component> components, ModelFiles& files) {
  const std::vector<Candidate> candidates = find_candidates_at(path);
  if (candidates.size() == 1 && candidates.front().file == nullptr) {
    refuse(field, "{}", candidates.front().problem);
  }
  ModelFiles found;
  for (const Component component : components) {
    files.networks.erase(component);
    files.problems.erase(component);
    choose(candidates, component, found);
  }
  if (found.networks.empty()) {
    if (!found.problems.empty()) refuse(field, "{}", found.problems.begin()->second);
    refuse(field, "'{}' holds no {}{}", path.string(), component_name(components.front()),
           describe_networks(candidates));
  }
  files.networks.merge(found.networks);
  files.problems.merge(found.problems);
  std::ranges::move(found.notes, std::back_inserter(files.notes));
}

ModelFiles find_model_files(const fs::path& folder) {
  const std::vector<Candidate> candidates = find_candidates(folder);
  ModelFiles files;
  for (const Component component : kAllComponents) choose(candidates, component, files);
  return files;
}

}  // namespace mochi
