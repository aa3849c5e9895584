#include "sparsity/schedule.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace mochi {
namespace {

void put(auto& value, const auto& given) {
  if (given) value = *given;
}

void find_late_steps(const std::set<int>& schedule, const char* key, int num_steps,
                     std::vector<std::string>& doubts) {
  if (schedule.empty() || *schedule.rbegin() < num_steps) return;
  doubts.push_back(fmt::format("{} names step {}, and there are {} (0 to {})", key,
                               *schedule.rbegin(), num_steps, num_steps - 1));
}

void find_mlp_doubts(const MlpSparsity& mlp, int num_layers, std::int64_t num_hidden,
                     std::vector<std::string>& doubts) {
  if (mlp.first_n_dense_layers >= num_layers) {
    doubts.push_back(
        fmt::format("mlp.first_n_dense_layers is {}, and there are {} layers: all feed-forward "
                    "layers are dense",
                    mlp.first_n_dense_layers, num_layers));
  }
  const auto hidden = static_cast<double>(num_hidden);
  const double multiple = mlp.counts_multiple_of;
  const double top = std::min(std::round(mlp.top_keys * hidden / multiple) * multiple, hidden);
  const double kept = top + mlp.random_keys * (hidden - top);
  if (std::ceil(kept / multiple) * multiple >= hidden) {
    doubts.push_back(
        fmt::format("mlp.top_keys and mlp.random_keys, rounded to mlp.counts_multiple_of = {}, are "
                    "all {} hidden columns: nothing is saved",
                    mlp.counts_multiple_of, num_hidden));
  }
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

std::vector<std::string> find_doubts(const SparsityConfig& config, int num_steps, int num_layers,
                                     std::int64_t num_hidden) {
  std::vector<std::string> doubts;
  const AttentionSparsity& attn = config.attn;
  if (attn.is_enabled && attn.full_step_schedule) {
    find_late_steps(*attn.full_step_schedule, "attn.full_step_schedule", num_steps, doubts);
  }
  if (config.step_caching.is_enabled) {
    find_late_steps(config.step_caching.skip_step_schedule, "step_caching.skip_step_schedule",
                    num_steps, doubts);
  }
  if (attn.is_enabled && attn.first_n_dense_layers >= num_layers) {
    doubts.push_back(
        fmt::format("attn.first_n_dense_layers is {}, and there are {} layers: all "
                    "attention is dense",
                    attn.first_n_dense_layers, num_layers));
  }
  if (config.mlp.is_enabled) find_mlp_doubts(config.mlp, num_layers, num_hidden, doubts);
  for (const SparsityOverride& entry : config.overrides) {
    if (entry.layers.first < num_layers && entry.steps.first < num_steps) continue;
    doubts.push_back(
        fmt::format("an entry of overrides is for layers from {} and steps from {}, "
                    "and there are {} and {}",
                    entry.layers.first, entry.steps.first, num_layers, num_steps));
  }
  return doubts;
}

}  // namespace mochi
