// Warnings about settings that are valid but do not fit a generation and its model.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "sparsity/schedule.h"

namespace mochi {
namespace {

using Lines = std::vector<std::string>;

// "steps 15, 30 and 45"
std::string list_steps(const std::vector<int>& steps) {
  constexpr std::size_t kMaxListed = 8;
  if (steps.size() == 1) return fmt::format("step {}", steps.front());
  const std::size_t num_listed = std::min(steps.size() - 1, kMaxListed);
  const std::vector<int> first(steps.begin(),
                               steps.begin() + static_cast<std::ptrdiff_t>(num_listed));
  const std::size_t num_left = steps.size() - num_listed;
  return num_left == 1 ? fmt::format("steps {} and {}", fmt::join(first, ", "), steps.back())
                       : fmt::format("steps {} and {} more", fmt::join(first, ", "), num_left);
}

// Warns of the steps of a schedule for which `is_concerned` is true.
void warn_of_steps(const std::string& key, const std::set<int>& schedule,
                   const std::function<bool(int)>& is_concerned, const std::string& singular,
                   const std::string& plural, Lines& lines) {
  std::vector<int> steps;
  std::ranges::copy_if(schedule, std::back_inserter(steps), is_concerned);
  if (steps.empty()) return;
  lines.push_back(
      fmt::format("{}: {} {}", key, list_steps(steps), steps.size() == 1 ? singular : plural));
}

void warn_of_late_steps(const std::string& key, const std::set<int>& schedule, int num_steps,
                        Lines& lines) {
  warn_of_steps(
      key, schedule, [&](int step) { return step >= num_steps; },
      fmt::format("lies beyond the last of {} steps and is ignored", num_steps),
      fmt::format("lie beyond the last of {} steps and are ignored", num_steps), lines);
}

void warn_of_schedules(const SparsityConfig& config, int num_steps, Lines& lines) {
  const AttentionSparsity& attn = config.attn;
  if (attn.is_enabled && attn.full_step_schedule) {
    warn_of_late_steps("attn.full_step_schedule", *attn.full_step_schedule, num_steps, lines);
  }
  const StepSkipping& skipping = config.step_skipping;
  if (skipping.rule == SkipRule::kSchedule) {
    warn_of_late_steps("step_skipping.evaluated_step_schedule", skipping.evaluated_steps, num_steps,
                       lines);
  }
  if (!config.step_caching.is_enabled) return;
  const std::string key = "step_caching.skip_step_schedule";
  const std::set<int>& skipped = config.step_caching.skip_step_schedule;
  warn_of_late_steps(key, skipped, num_steps, lines);
  warn_of_steps(
      key, skipped, [&](int step) { return step < num_steps && !skips_blocks(config, step); },
      "is a full step and is not skipped", "are full steps and are not skipped", lines);
}

// In raster order there are no voxels, and so every token is outside of them.
void warn_of_missing_voxels(const SparsityConfig& config, Lines& lines) {
  const AttentionSparsity& attn = config.attn;
  if (config.patchify_is_enabled || !attn.is_enabled) return;
  if (attn.local_voxels > 0) {
    lines.push_back(
        fmt::format("attn.local_voxels = {} does not select neighbours, because "
                    "patchify.is_enabled is false: each group sees the last {} x attn.mbm "
                    "visual tokens instead",
                    attn.local_voxels, std::pow(attn.local_voxels, 3)));
  }
  for (const auto& [key, is_set] :
       {std::pair("attn.full_attn_from_3d_tail", attn.full_attn_from_3d_tail),
        std::pair("attn.full_attn_to_3d_tail", attn.full_attn_to_3d_tail)}) {
    if (!is_set) continue;
    lines.push_back(fmt::format(
        "{} makes attention dense, because patchify.is_enabled is false and so no token is in a "
        "voxel",
        key));
  }
}

void warn_of_dense_layers(const std::string& section, const std::string& what, int num_dense,
                          int num_layers, Lines& lines) {
  if (num_dense < num_layers) return;
  lines.push_back(fmt::format("{}.first_n_dense_layers = {} covers all {} layers: {} dense",
                              section, num_dense, num_layers, what));
}

void warn_of_full_lists(const MlpSparsity& mlp, std::int64_t num_hidden, Lines& lines) {
  const auto hidden = static_cast<double>(num_hidden);
  const double multiple = mlp.counts_multiple_of;
  const double top = std::min(std::round(mlp.top_keys * hidden / multiple) * multiple, hidden);
  const double kept = top + mlp.random_keys * (hidden - top);
  if (std::ceil(kept / multiple) * multiple < hidden) return;
  lines.push_back(
      fmt::format("mlp.top_keys and mlp.random_keys, rounded to multiples of "
                  "mlp.counts_multiple_of = {}, select all {} hidden columns: nothing is saved",
                  mlp.counts_multiple_of, num_hidden));
}

void warn_of_overrides(const SparsityConfig& config, int num_steps, int num_layers, Lines& lines) {
  for (std::size_t i = 0; i < config.overrides.size(); ++i) {
    const SparsityOverride& entry = config.overrides[i];
    if (entry.layers.first >= num_layers) {
      lines.push_back(
          fmt::format("overrides[{}].layers: layer {} lies beyond the last of {} layers, and the "
                      "entry is ignored",
                      i, entry.layers.first, num_layers));
    } else if (entry.steps.first >= num_steps) {
      lines.push_back(
          fmt::format("overrides[{}].steps: step {} lies beyond the last of {} steps, and the "
                      "entry is ignored",
                      i, entry.steps.first, num_steps));
    }
  }
}

}  // namespace

std::vector<std::string> sparsity_warnings(const SparsityConfig& config, int num_steps,
                                           int num_layers, std::int64_t num_hidden) {
  Lines lines;
  if (config.steps && *config.steps != num_steps && config.attn.is_enabled &&
      config.attn.full_step_schedule) {
    lines.push_back(fmt::format(
        "attn.full_step_schedule is meant for {} steps and is spread over the {} of this video",
        *config.steps, num_steps));
  }
  num_steps = config.steps.value_or(num_steps);  // those that the schedules are meant for
  warn_of_schedules(config, num_steps, lines);
  warn_of_missing_voxels(config, lines);
  if (config.attn.is_enabled) {
    warn_of_dense_layers("attn", "all attention is", config.attn.first_n_dense_layers, num_layers,
                         lines);
    warn_of_overrides(config, num_steps, num_layers, lines);
  }
  if (config.mlp.is_enabled) {
    warn_of_dense_layers("mlp", "all feed-forward layers are", config.mlp.first_n_dense_layers,
                         num_layers, lines);
    warn_of_full_lists(config.mlp, num_hidden, lines);
  }
  return lines;
}

}  // namespace mochi
