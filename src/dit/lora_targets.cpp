#include "dit/lora_targets.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/nearest.h"
#include "dit/dit_weights.h"
#include "dit/lora_names.h"

namespace mochi {
namespace {

// One of our layers, and the layers of diffusers that it is made of, in the order of rows.
struct DiffusersLayers {
  std::string_view original;
  std::vector<std::string_view> names;
  bool has_swapped_halves = false;
};

// As diffusers_layout.cpp maps whole weights; a test holds the two together.
const std::vector<DiffusersLayers>& outer_layers() {
  static const std::vector<DiffusersLayers> layers{
      {"x_embedder.proj", {"patch_embed.proj"}},
      {"t_embedder.mlp.0", {"time_embed.timestep_embedder.linear_1"}},
      {"t_embedder.mlp.2", {"time_embed.timestep_embedder.linear_2"}},
      {"t5_y_embedder.to_kv", {"time_embed.pooler.to_kv"}},
      {"t5_y_embedder.to_q", {"time_embed.pooler.to_q"}},
      {"t5_y_embedder.to_out", {"time_embed.pooler.to_out"}},
      {"t5_yproj", {"time_embed.caption_proj"}},
      {"final_layer.mod", {"norm_out.linear"}, true},
      {"final_layer.linear", {"proj_out"}},
  };
  return layers;
}

const std::vector<DiffusersLayers>& block_layers() {
  static const std::vector<DiffusersLayers> layers{
      {"mod_x", {"norm1.linear"}},
      {"mod_y", {"norm1_context.linear"}},
      {"attn.qkv_x", {"attn1.to_q", "attn1.to_k", "attn1.to_v"}},
      {"attn.qkv_y", {"attn1.add_q_proj", "attn1.add_k_proj", "attn1.add_v_proj"}},
      {"attn.q_norm_x", {"attn1.norm_q"}},
      {"attn.k_norm_x", {"attn1.norm_k"}},
      {"attn.q_norm_y", {"attn1.norm_added_q"}},
      {"attn.k_norm_y", {"attn1.norm_added_k"}},
      {"attn.proj_x", {"attn1.to_out.0"}},
      {"attn.proj_y", {"attn1.to_add_out"}},
      {"mlp_x.w1", {"ff.net.0.proj"}, true},
      {"mlp_x.w2", {"ff.net.2"}},
      {"mlp_y.w1", {"ff_context.net.0.proj"}, true},
      {"mlp_y.w2", {"ff_context.net.2"}},
  };
  return layers;
}

using NamedTargets = std::vector<std::pair<std::string, LoraTarget>>;

// Returns the layers of diffusers that a whole layer consists of.
NamedTargets split_target(const DiffusersLayers& layers, const std::string& prefix,
                          const LoraTarget& whole) {
  NamedTargets targets;
  const auto num_parts = std::ssize(layers.names);
  const std::int64_t num_rows = whole.out_features / num_parts;
  for (std::int64_t part = 0; part < num_parts; ++part) {
    LoraTarget target = whole;
    target.out_features = num_rows;
    target.rows = {{0, num_rows, part * num_rows}};
    if (layers.has_swapped_halves) {
      const std::int64_t half = num_rows / 2;
      target.rows = {{0, half, half}, {half, num_rows - half, 0}};
    }
    targets.emplace_back(prefix + std::string(layers.names[static_cast<std::size_t>(part)]),
                         target);
  }
  return targets;
}

// Returns the layer under diffusers' names. `module` is the original name.
NamedTargets diffusers_targets(const std::string& module, const std::string& last_block,
                               const LoraTarget& whole) {
  constexpr std::string_view kBlocks = "blocks.";
  const bool is_of_block = module.starts_with(kBlocks);
  const std::size_t begin = is_of_block ? module.find('.', kBlocks.size()) + 1 : 0;
  const std::string prefix = is_of_block ? "transformer_" + module.substr(0, begin) : "";
  const std::string_view name = std::string_view(module).substr(begin);
  if (module == last_block + "mod_y") {  // has a different name there
    return split_target({name, {"norm1_context.linear_1"}}, prefix, whole);
  }
  const std::vector<DiffusersLayers>& all = is_of_block ? block_layers() : outer_layers();
  const auto found = std::ranges::find(all, name, &DiffusersLayers::original);
  return found == all.end() ? NamedTargets() : split_target(*found, prefix, whole);
}

// A bias and a norm's weight have one column; a convolution's kernel counts as columns.
LoraTarget whole_target(const std::string& parameter, const Shape& shape) {
  return {parameter, shape[0], shape.num_elements() / shape[0], {{0, shape[0], 0}}};
}

}  // namespace

LoraTargets::LoraTargets(const DitConfig& config) {
  constexpr std::string_view kWeight = ".weight";
  constexpr std::string_view kBias = ".bias";
  const std::string last_block = "blocks." + std::to_string(config.depth - 1) + ".";
  for (const auto& [name, shape] : list_parameters(DitWeights(config))) {
    const bool is_bias = name.ends_with(kBias);
    if (!is_bias && !name.ends_with(kWeight)) continue;
    const std::string module = name.substr(0, name.size() - (is_bias ? kBias : kWeight).size());
    Layers& layers = is_bias ? biases_ : weights_;
    const LoraTarget whole = whole_target(name, shape);
    for (auto& [diffusers_name, target] : diffusers_targets(module, last_block, whole)) {
      layers.insert_or_assign(diffusers_name, std::move(target));
    }
    layers.insert_or_assign(module, whole);
  }
  for (const std::string& module : modules()) {
    std::string flat = module;
    std::ranges::replace(flat, '.', '_');
    flat_.emplace(flat, module);
  }
}

const LoraTarget* LoraTargets::find(const Layers& layers, std::string_view module) const {
  if (const std::optional<std::string_view> flat = strip_flat_prefix(module)) {
    const auto dotted = flat_.find(*flat);
    if (dotted == flat_.end()) return nullptr;
    module = dotted->second;
  }
  const auto found = layers.find(module);
  return found == layers.end() ? nullptr : &found->second;
}

std::string LoraTargets::nearest(std::string_view module) const {
  std::vector<std::string> known;
  known.reserve(flat_.size());
  const std::optional<std::string_view> flat = strip_flat_prefix(module);
  const std::string_view prefix = module.substr(0, flat ? module.size() - flat->size() : 0);
  for (const auto& [underscored, dotted] : flat_) {
    known.push_back(flat ? std::string(prefix) + underscored : dotted);
  }
  return std::string(nearest_name(module, known));
}

std::vector<std::string> LoraTargets::modules() const {
  std::vector<std::string> modules;
  modules.reserve(weights_.size());
  for (const auto& [module, target] : weights_) modules.push_back(module);
  return modules;
}

}  // namespace mochi
