// The sizes at which is measured.
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
  std::int64_t num_text_tokens;       // in the joint attention
  std::int64_t num_encoder_tokens;    // that the text encoder gets
  std::int64_t product, copy_values;  // of the ceilings: a cube's edge; activations that are copied
  double batch_seconds;               // what is shorter is timed several times at once
};

// The values of chipmunk-config.yml.
SparsityConfig mochi_sparsity();

// "full": Mochi 1 preview's, a video of 848×480×163. "micro": such that a laptop takes seconds.
// Throws Error for others.
Sizes sizes_of(const std::string& name);

}  // namespace mochi::bench
