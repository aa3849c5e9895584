#include "dit/diffusers_layout.h"

#include <fmt/core.h>

#include <string>
#include <utility>

#include "base/error.h"
#include "io/key_map.h"

namespace mochi {
namespace {

void map_attention(KeyMapBuilder& map, const std::string& target, const std::string& source) {
  map.concatenate(target + "qkv_x.weight",
                  {source + "to_q.weight", source + "to_k.weight", source + "to_v.weight"});
  map.concatenate(
      target + "qkv_y.weight",
      {source + "add_q_proj.weight", source + "add_k_proj.weight", source + "add_v_proj.weight"});
  map.rename(target + "q_norm_x.weight", source + "norm_q.weight");
  map.rename(target + "k_norm_x.weight", source + "norm_k.weight");
  map.rename(target + "q_norm_y.weight", source + "norm_added_q.weight");
  map.rename(target + "k_norm_y.weight", source + "norm_added_k.weight");
  map.rename_layer(target + "proj_x", source + "to_out.0");
  // The last block has no text output.
  if (map.has(source + "to_add_out.weight")) {
    map.rename_layer(target + "proj_y", source + "to_add_out");
  }
}

void map_mlp(KeyMapBuilder& map, const std::string& target, const std::string& source) {
  // Original rows: (gated by SiLU | linear); diffusers': (linear | gated by SiLU).
  map.swap_halves(target + "w1.weight", source + "net.0.proj.weight");
  map.rename(target + "w2.weight", source + "net.2.weight");
}

void map_block(KeyMapBuilder& map, const std::string& target, const std::string& source) {
  map.rename_layer(target + "mod_x", source + "norm1.linear");
  const bool is_last = map.has(source + "norm1_context.linear_1.weight");
  map.rename_layer(target + "mod_y", source + "norm1_context.linear" + (is_last ? "_1" : ""));
  map_attention(map, target + "attn.", source + "attn1.");
  map_mlp(map, target + "mlp_x.", source + "ff.");
  if (map.has(source + "ff_context.net.0.proj.weight")) {
    map_mlp(map, target + "mlp_y.", source + "ff_context.");
  }
}

KeyMappedSource::KeyMap map_transformer(const TensorSource& source) {
  KeyMapBuilder map(source);
  map.rename_layer("x_embedder.proj", "patch_embed.proj");
  map.rename_layer("t_embedder.mlp.0", "time_embed.timestep_embedder.linear_1");
  map.rename_layer("t_embedder.mlp.2", "time_embed.timestep_embedder.linear_2");
  for (const char* layer : {"to_kv", "to_q", "to_out"}) {
    map.rename_layer(fmt::format("t5_y_embedder.{}", layer),
                     fmt::format("time_embed.pooler.{}", layer));
  }
  map.rename_layer("t5_yproj", "time_embed.caption_proj");
  map.rename("pos_frequencies", "pos_frequencies");
  const int depth = map.count("transformer_blocks.", ".attn1.to_q.weight");
  for (int block_idx = 0; block_idx < depth; ++block_idx) {
    map_block(map, fmt::format("blocks.{}.", block_idx),
              fmt::format("transformer_blocks.{}.", block_idx));
  }
  // Original rows: (shift | scale); diffusers': (scale | shift).
  map.swap_halves("final_layer.mod.weight", "norm_out.linear.weight");
  map.swap_halves("final_layer.mod.bias", "norm_out.linear.bias");
  map.rename_layer("final_layer.linear", "proj_out");
  return map.take();
}

}  // namespace

bool has_diffusers_dit_keys(const TensorSource& source) {
  return source.contains("patch_embed.proj.weight");
}

std::shared_ptr<TensorSource> with_original_dit_keys(std::shared_ptr<TensorSource> source) {
  if (source->contains("x_embedder.proj.weight")) return source;
  if (!has_diffusers_dit_keys(*source)) {
    fail(
        "{} is not a Mochi transformer: it has neither 'x_embedder.proj.weight' nor "
        "'patch_embed.proj.weight'",
        source->description());
  }
  KeyMappedSource::KeyMap map = map_transformer(*source);
  return std::make_shared<KeyMappedSource>(std::move(source), std::move(map));
}

}  // namespace mochi
