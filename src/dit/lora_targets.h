// The layers of the diffusion transformer that a LoRA can change, by the names that LoRA files use.
#pragma once

#include <cstdint>
#include <map>
#include <string>
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

struct LoraTarget {
  std::string weight;  // "blocks.0.attn.qkv_x.weight"
  std::int64_t out_features = 0;
  std::int64_t in_features = 0;
  std::vector<LoraRows> rows;  // together all rows of the layer
};

// By the layer's name: "blocks.0.attn.qkv_x" (the original one), "transformer_blocks.0.attn1.to_q"
// (diffusers').
using LoraTargets = std::map<std::string, LoraTarget, std::less<>>;

LoraTargets list_lora_targets(const DitConfig& config);

}  // namespace mochi
