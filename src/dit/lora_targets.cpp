#include "dit/lora_targets.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "dit/dit_weights.h"

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
      {"attn.proj_x", {"attn1.to_out.0"}},
      {"attn.proj_y", {"attn1.to_add_out"}},
      {"mlp_x.w1", {"ff.net.0.proj"}, true},
      {"mlp_x.w2", {"ff.net.2"}},
      {"mlp_y.w1", {"ff_context.net.0.proj"}, true},
      {"mlp_y.w2", {"ff_context.net.2"}},
  };
  return layers;
}

void add_diffusers(const DiffusersLayers& layers, const std::string& prefix,
                   const LoraTarget& whole, LoraTargets& targets) {
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
    targets[prefix + std::string(layers.names[static_cast<std::size_t>(part)])] = target;
  }
}

// Adds the layer under diffusers' names. `module` is the original name.
void add_diffusers(const std::string& module, const std::string& last_block,
                   const LoraTarget& whole, LoraTargets& targets) {
  constexpr std::string_view kBlocks = "blocks.";
  if (!module.starts_with(kBlocks)) {
    for (const DiffusersLayers& layers : outer_layers()) {
      if (layers.original == module) add_diffusers(layers, "", whole, targets);
    }
    return;
  }
  const std::size_t dot = module.find('.', kBlocks.size());
  const std::string prefix = "transformer_" + module.substr(0, dot + 1);
  const std::string_view name = std::string_view(module).substr(dot + 1);
  if (module == last_block + "mod_y") {  // has a different name there
    add_diffusers({name, {"norm1_context.linear_1"}}, prefix, whole, targets);
    return;
  }
  for (const DiffusersLayers& layers : block_layers()) {
    if (layers.original == name) add_diffusers(layers, prefix, whole, targets);
  }
}

// Adds each layer under the names of kohya's trainers, which have underscores instead of dots:
// "lora_unet_blocks_0_attn_qkv_x".
void add_flat_names(LoraTargets& targets) {
  LoraTargets flat;
  for (const auto& [module, target] : targets) {
    std::string name = module;
    std::ranges::replace(name, '.', '_');
    flat["lora_unet_" + name] = flat["lora_transformer_" + name] = target;
  }
  targets.merge(flat);
}

}  // namespace

LoraTargets list_lora_targets(const DitConfig& config) {
  constexpr std::string_view kEnding = ".weight";
  const std::string last_block = "blocks." + std::to_string(config.depth - 1) + ".";
  LoraTargets targets;
  for (const auto& [name, shape] : list_parameters(DitWeights(config))) {
    if (shape.rank() != 2 || !name.ends_with(kEnding)) continue;
    const std::string module = name.substr(0, name.size() - kEnding.size());
    const LoraTarget target{name, shape[0], shape[1], {{0, shape[0], 0}}};
    targets[module] = target;
    add_diffusers(module, last_block, target, targets);
  }
  add_flat_names(targets);
  return targets;
}

}  // namespace mochi
