// Sizes of the models and videos that are measured.
#pragma once

#include <string>

#include "mochi/mochi.h"
#include "pipeline/model_config.h"

namespace mochi::bench {

constexpr std::int64_t kChunkFrames = 1;  // latent frames that are decoded at a time

struct Sizes {
  ModelConfig config;
  VideoSize video;
  SparsityConfig sparsity;
  std::int64_t num_text_tokens;     // in the joint attention
  std::int64_t num_encoder_tokens;  // input of the text encoder
  // Ceilings: rows, columns and depth of the matmul, and activations to copy.
  std::int64_t product, copy_values;
  double batch_seconds;  // shorter work is timed in batches of this length
};

// "full": Mochi 1 preview and a video of 848×480×163. "micro": a model and a video that take
// seconds on a laptop; `sparsity` gets smaller groups and tiles to match. Throws Error for other
// names.
Sizes sizes_of(const std::string& name, const SparsityConfig& sparsity = {});

}  // namespace mochi::bench
