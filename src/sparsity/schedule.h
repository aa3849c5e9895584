// Determines which steps and layers are dense, and which values apply to them.
#pragma once

#include <cstdint>
#include <set>
#include <span>

#include "mochi/sparsity.h"

namespace mochi {

enum class StepKind : std::uint8_t {
  kDense,   // dense attention that caches nothing
  kFull,    // dense attention that chooses columns and caches a delta for sparse steps
  kSparse,  // attention over the chosen columns with the delta
};

// Returns the configuration with its schedules spread over the steps of a generation: the noise
// levels `meant` (steps + 1) are those of the steps that they name, `own` (num_steps + 1) those of
// the generation. Full steps stay as many as there is room for, and the first two stay the first
// two, because they compute what columns are chosen by. `steps` is empty in the result.
SparsityConfig fit_schedules(SparsityConfig config, std::span<const double> meant,
                             std::span<const double> own);

// Steps that step skipping must not skip, among `num_steps`: full steps of attention and of
// feed-forward layers.
std::set<int> list_needed_steps(const SparsityConfig& config, int num_steps);

// Returns true if `step` is a full step of the layers with sparse attention.
bool is_full_step(const SparsityConfig& config, int step);

StepKind step_kind(const SparsityConfig& config, int step, int layer);

// Returns true if `step` is a full step of the sparse feed-forward layers: 0, N, 2N, … with N =
// full_step_every.
bool is_full_mlp_step(const MlpSparsity& mlp, int step);

// Returns true if step caching skips the blocks at this step. Full steps are never skipped.
bool skips_blocks(const SparsityConfig& config, int step);

// The settings of attention at this layer and step, with overrides applied.
AttentionSparsity resolve_attention(const SparsityConfig& config, int step, int layer);

}  // namespace mochi
