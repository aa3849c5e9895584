// Parameters of the diffusion transformer, under the names of the original checkpoints.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "dit/dit_config.h"
#include "weights/weights.h"

namespace mochi {

// One block's half for one stream: visual (x) or text (y).
struct StreamWeights {
  LinearWeights mod;             // hidden_size_x → scale_a, gate_a, scale_m, gate_m
  LinearWeights qkv;             // → (q|k|v, head, head_dim), no bias
  TensorView q_norm, k_norm;     // [head_dim]
  LinearWeights proj;            // absent in the last block's text stream, as are w1 and w2
  LinearWeights mlp_w1, mlp_w2;  // → (a | b), from silu(a)·b; no bias
};

struct BlockWeights {
  StreamWeights x, y;
};

struct DitWeights {
  explicit DitWeights(const DitConfig& config);

  DitConfig config;
  TensorView patch_weight;  // [hidden_size_x, latent_channels, patch, patch] matrix
  TensorView patch_bias;    // [hidden_size_x]
  LinearWeights timestep_in, timestep_out;
  LinearWeights pooler_kv, pooler_q, pooler_out;
  LinearWeights text_proj;
  TensorView pos_frequencies;  // [3, num_heads, head_dim / 2] f32; axes t, row, column
  std::vector<BlockWeights> blocks;
  LinearWeights final_mod;  // → shift, scale
  LinearWeights final_linear;

  void visit(const WeightVisitor& visitor);
};

// Returns the block that a parameter of this name belongs to, or nothing if it belongs to none.
std::optional<std::size_t> dit_layer_of(const std::string& name);

}  // namespace mochi
