#include "sparsity/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mochi {
namespace {

void put(auto& value, const auto& given) {
  if (given) value = *given;
}

// The step of `to` whose noise level is nearest to that of `step`.
int nearest_step(int step, std::span<const double> from, std::span<const double> to) {
  const double sigma = from[static_cast<std::size_t>(step)];
  const auto steps = to.first(to.size() - 1);
  const auto nearest = std::ranges::min_element(
      steps, {}, [sigma](double other) { return std::abs(other - sigma); });
  return static_cast<int>(nearest - steps.begin());
}

int last_step(std::span<const double> sigmas) { return static_cast<int>(sigmas.size()) - 2; }

// Steps that fall together move to the next free one.
std::set<int> spread_apart(const std::set<int>& steps, std::span<const double> meant,
                           std::span<const double> own) {
  std::set<int> spread;
  for (const int step : steps) {
    if (step > last_step(meant)) break;
    int place = step < 2 ? step : nearest_step(step, meant, own);
    while (spread.contains(place)) ++place;
    if (place <= last_step(own)) spread.insert(place);
  }
  return spread;
}

// The steps whose counterparts in `meant` are in the set.
std::set<int> spread_evenly(const std::set<int>& steps, std::span<const double> meant,
                            std::span<const double> own) {
  std::set<int> spread;
  for (int step = 0; step <= last_step(own); ++step) {
    if (steps.contains(nearest_step(step, own, meant))) spread.insert(step);
  }
  return spread;
}

IntRange spread_range(IntRange range, std::span<const double> meant, std::span<const double> own) {
  if (range.first > last_step(meant)) return {last_step(own) + 1, std::numeric_limits<int>::max()};
  range.first = nearest_step(range.first, meant, own);
  if (range.last < last_step(meant)) range.last = nearest_step(range.last, meant, own);
  return range;
}

}  // namespace

SparsityConfig fit_schedules(SparsityConfig config, std::span<const double> meant,
                             std::span<const double> own) {
  config.steps.reset();
  if (std::ranges::equal(meant, own)) return config;
  if (config.attn.full_step_schedule) {
    config.attn.full_step_schedule = spread_apart(*config.attn.full_step_schedule, meant, own);
  }
  std::set<int>& cached = config.step_caching.skip_step_schedule;
  cached = spread_evenly(cached, meant, own);
  std::set<int>& evaluated = config.step_skipping.evaluated_steps;
  evaluated = spread_evenly(evaluated, meant, own);
  config.step_skipping = adapt_to_few_steps(config.step_skipping, last_step(own) + 1);
  for (SparsityOverride& entry : config.overrides) {
    entry.steps = spread_range(entry.steps, meant, own);
  }
  return config;
}

std::set<int> list_needed_steps(const SparsityConfig& config, int num_steps) {
  std::set<int> steps;
  for (int step = 0; step < num_steps; ++step) {
    const bool is_full = config.attn.is_enabled && is_full_step(config, step);
    if (is_full || (config.mlp.is_enabled && is_full_mlp_step(config.mlp, step))) {
      steps.insert(step);
    }
  }
  return steps;
}

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
