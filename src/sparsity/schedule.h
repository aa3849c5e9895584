// When attention and feed-forward layers are dense, and with which values the sparsity works where:
// pure functions.
#pragma once

#include <cstdint>

#include "mochi/sparsity.h"

namespace mochi {

enum class StepKind : std::uint8_t {
  kDense,   // dense, nothing kept
  kFull,    // dense, and what later sparse steps need is chosen and cached
  kSparse,  // the chosen columns, and the delta
};

// Whether `step` is a full step for the layers that are sparse at all.
bool is_full_step(const SparsityConfig& config, int step);

StepKind step_kind(const SparsityConfig& config, int step, int layer);

// The same as is_full_step of feed-forward layers: 0 and every full_step_every-th.
bool is_full_mlp_step(const MlpSparsity& mlp, int step);

// The blocks are left out at this step; a full step never is.
bool skips_blocks(const SparsityConfig& config, int step);

// The attention's values with the overrides for this layer and step put over them.
AttentionSparsity resolve_attention(const SparsityConfig& config, int step, int layer);

}  // namespace mochi
