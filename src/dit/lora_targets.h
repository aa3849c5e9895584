// The layers of the diffusion transformer that a LoRA can change, by the names that LoRA files use.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "dit/dit_config.h"

namespace mochi {

// Rows of a layer, and where they lie in the engine's weight: what is one weight here may be
// several layers there (q, k, v), or have its halves in another order.
struct LoraRows {
  std::int64_t begin = 0;
  std::int64_t count = 0;
  std::int64_t target = 0;  // first row in the weight
};

// The weight or the bias of a layer. A convolution's kernel counts as columns, a bias or a norm's
// weight has one column.
struct LoraTarget {
  std::string parameter;  // "blocks.0.attn.qkv_x.weight"
  std::int64_t out_features = 0;
  std::int64_t in_features = 0;
  std::vector<LoraRows> rows;  // together all rows of the layer
};

class LoraTargets {
 public:
  explicit LoraTargets(const DitConfig& config);

  // Return the weight and the bias of a layer by its name: "blocks.0.attn.qkv_x" (the original
  // one), "transformer_blocks.0.attn1.to_q" (diffusers'), or either with underscores after a
  // trainer's prefix: "lora_unet_blocks_0_attn_qkv_x". Null if there is none.
  const LoraTarget* find_weight(std::string_view module) const { return find(weights_, module); }
  const LoraTarget* find_bias(std::string_view module) const { return find(biases_, module); }

  // Returns the name of the layer that `module` may have meant.
  std::string nearest(std::string_view module) const;
  // Returns the original and diffusers' names of all layers that have a weight, sorted.
  std::vector<std::string> modules() const;

 private:
  using Layers = std::map<std::string, LoraTarget, std::less<>>;

  const LoraTarget* find(const Layers& layers, std::string_view module) const;

  Layers weights_, biases_;                               // by the names with dots
  std::map<std::string, std::string, std::less<>> flat_;  // names with underscores → with dots
};

}  // namespace mochi
