#include "dit/dit_weights.h"

#include <charconv>
#include <string_view>

namespace mochi {
namespace {

struct StreamSizes {
  const char* suffix;  // suffix of the keys: "x" or "y"
  std::int64_t width;
  std::int64_t mlp_hidden;
  bool is_last_text;  // the stream provides keys and values only
};

void visit_stream(const WeightVisitor& visitor, StreamWeights& stream, const DitConfig& config,
                  const std::string& block, const StreamSizes& sizes) {
  const std::string attention = block + "attn.";
  const std::string suffix = sizes.suffix;
  const std::int64_t width_x = config.hidden_size_x;
  const std::int64_t num_modulations = sizes.is_last_text ? 1 : 4;
  stream.mod.visit(visitor, block + "mod_" + suffix, num_modulations * sizes.width, width_x, true);
  stream.qkv.visit(visitor, attention + "qkv_" + suffix, 3 * width_x, sizes.width, false);
  visitor(attention + "q_norm_" + suffix + ".weight", stream.q_norm, {config.head_dim()},
          WeightRole::kVector);
  visitor(attention + "k_norm_" + suffix + ".weight", stream.k_norm, {config.head_dim()},
          WeightRole::kVector);
  if (sizes.is_last_text) return;
  const std::string mlp = block + "mlp_" + suffix;
  stream.proj.visit(visitor, attention + "proj_" + suffix, sizes.width, width_x, true);
  stream.mlp_w1.visit(visitor, mlp + ".w1", 2 * sizes.mlp_hidden, sizes.width, false);
  stream.mlp_w2.visit(visitor, mlp + ".w2", sizes.width, sizes.mlp_hidden, false);
}

}  // namespace

DitWeights::DitWeights(const DitConfig& dit_config)
    : config(dit_config), blocks(static_cast<std::size_t>(dit_config.depth)) {
  config.validate();
}

void DitWeights::visit(const WeightVisitor& visitor) {
  const std::int64_t width_x = config.hidden_size_x;
  const std::int64_t text_width = config.text_width;
  const std::int64_t patch = config.patch_size;
  visitor("x_embedder.proj.weight", patch_weight, {width_x, config.latent_channels, patch, patch},
          WeightRole::kMatrix);
  visitor("x_embedder.proj.bias", patch_bias, {width_x}, WeightRole::kVector);
  timestep_in.visit(visitor, "t_embedder.mlp.0", width_x, config.timestep_features, true);
  timestep_out.visit(visitor, "t_embedder.mlp.2", width_x, width_x, true);
  pooler_kv.visit(visitor, "t5_y_embedder.to_kv", 2 * text_width, text_width, true);
  pooler_q.visit(visitor, "t5_y_embedder.to_q", text_width, text_width, true);
  pooler_out.visit(visitor, "t5_y_embedder.to_out", width_x, text_width, true);
  text_proj.visit(visitor, "t5_yproj", config.hidden_size_y, text_width, true);
  visitor("pos_frequencies", pos_frequencies, {3, config.num_heads, config.head_dim() / 2},
          WeightRole::kVector);
  for (std::size_t layer = 0; layer < blocks.size(); ++layer) {
    const std::string prefix = "blocks." + std::to_string(layer) + ".";
    const bool is_last = layer + 1 == blocks.size();
    visit_stream(visitor, blocks[layer].x, config, prefix,
                 {"x", width_x, config.mlp_hidden_x, false});
    visit_stream(visitor, blocks[layer].y, config, prefix,
                 {"y", config.hidden_size_y, config.mlp_hidden_y, is_last});
  }
  final_mod.visit(visitor, "final_layer.mod", 2 * width_x, width_x, true);
  final_linear.visit(visitor, "final_layer.linear", patch * patch * config.latent_channels, width_x,
                     true);
}

std::optional<std::size_t> dit_layer_of(const std::string& name) {
  constexpr std::string_view kPrefix = "blocks.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::size_t layer = 0;
  const char* const end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + kPrefix.size(), end, layer);
  if (error != std::errc() || rest == end || *rest != '.') return std::nullopt;
  return layer;
}

}  // namespace mochi
