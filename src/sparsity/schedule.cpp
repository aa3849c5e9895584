#include "sparsity/schedule.h"

namespace mochi {
namespace {

void put(auto& value, const auto& given) {
  if (given) value = *given;
}

}  // namespace

bool is_full_step(const SparsityConfig& config, int step) {
  const AttentionSparsity& attn = config.attn;
  if (step == 0) return true;
  if (attn.full_step_schedule) return attn.full_step_schedule->contains(step);
  return step == 1 || step % attn.full_step_every == 0;
}

StepKind step_kind(const SparsityConfig& config, int step, int layer) {
  if (!config.attn.is_enabled || layer < config.attn.first_n_dense_layers) return StepKind::kDense;
  return is_full_step(config, step) ? StepKind::kFull : StepKind::kSparse;
}

bool is_full_mlp_step(const MlpSparsity& mlp, int step) { return step % mlp.full_step_every == 0; }

bool skips_blocks(const SparsityConfig& config, int step) {
  const bool is_full =
      is_full_step(config, step) || (config.mlp.is_enabled && is_full_mlp_step(config.mlp, step));
  return config.step_caching.is_enabled && !is_full &&
         config.step_caching.skip_step_schedule.contains(step);
}

AttentionSparsity resolve_attention(const SparsityConfig& config, int step, int layer) {
  AttentionSparsity attn = config.attn;
  for (const SparsityOverride& entry : config.overrides) {
    if (!entry.layers.contains(layer) || !entry.steps.contains(step)) continue;
    put(attn.top_keys, entry.top_keys);
    put(attn.top_p, entry.top_p);
    put(attn.random_keys, entry.random_keys);
    put(attn.delta, entry.delta);
  }
  return attn;
}

std::set<int> list_full_steps(const SparsityConfig& config, int num_steps) {
  std::set<int> steps;
  for (int step = 0; step < num_steps; ++step) {
    if (is_full_step(config, step)) steps.insert(step);
  }
  return steps;
}

}  // namespace mochi
