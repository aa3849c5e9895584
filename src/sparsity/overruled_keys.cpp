#include "sparsity/overruled_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace mochi {
namespace {

// `concerns(key)` is true for the keys that have no effect if `holds(config)`.
struct Rule {
  const char* reason;
  bool (*concerns)(std::string_view key);
  bool (*holds)(const SparsityConfig& config);
};

bool is_schedule(std::string_view key) {
  return key == "attn.full_step_every" || key == "attn.full_step_schedule";
}

// Step caching uses the schedule even if attention is dense, and the order of tokens the group
// size.
bool is_of_attention_alone(std::string_view key) {
  if (key == "attn.is_enabled" || key == "attn.mbm" || is_schedule(key)) return false;
  return key.starts_with("attn.") || key.starts_with("offloading.") || key == "overrides";
}

bool is_top_keys(std::string_view key) {
  return key == "attn.top_keys" || (key.starts_with("overrides[") && key.ends_with(".top_keys"));
}

// Returns true if some layer at some step chooses columns by top_p (or by top_keys).
bool uses_top_p(const SparsityConfig& config, bool is_used) {
  return (config.attn.top_p > 0) == is_used ||
         std::ranges::any_of(config.overrides, [&](const SparsityOverride& entry) {
           return entry.top_p && (*entry.top_p > 0) == is_used;
         });
}

bool is_of_measured_skips(std::string_view key) {
  return key == "step_skipping.threshold" || key == "step_skipping.warm_up" ||
         key == "step_skipping.cool_down" || key == "step_skipping.longest_run";
}

bool has_schedule(const SparsityConfig& config) {
  const auto is_of_some_steps = [](const SparsityOverride& entry) {
    return entry.steps.first > 0 || entry.steps.last < std::numeric_limits<int>::max();
  };
  return (config.attn.full_step_schedule &&
          (config.attn.is_enabled || config.step_caching.is_enabled)) ||
         config.step_caching.is_enabled || config.step_skipping.rule == SkipRule::kSchedule ||
         std::ranges::any_of(config.overrides, is_of_some_steps);
}

bool has_delta(const SparsityConfig& config) {
  return config.attn.delta != DeltaKind::kNone ||
         std::ranges::any_of(config.overrides, [](const SparsityOverride& entry) {
           return entry.delta.value_or(DeltaKind::kNone) != DeltaKind::kNone;
         });
}

constexpr Rule kRules[] = {
    {"attn.is_enabled is false", is_of_attention_alone,
     [](const SparsityConfig& config) { return !config.attn.is_enabled; }},
    {"attn.is_enabled is false", is_schedule,
     [](const SparsityConfig& config) {
       return !config.attn.is_enabled && !config.step_caching.is_enabled;
     }},
    {"attn.is_enabled and patchify.is_enabled are false",
     [](std::string_view key) { return key == "attn.mbm"; },
     [](const SparsityConfig& config) {
       return !config.attn.is_enabled && !config.patchify_is_enabled;
     }},
    {"attn.full_step_schedule is given",
     [](std::string_view key) { return key == "attn.full_step_every"; },
     [](const SparsityConfig& config) { return config.attn.full_step_schedule.has_value(); }},
    {"attn.top_p is above 0", is_top_keys,
     [](const SparsityConfig& config) { return !uses_top_p(config, false); }},
    {"attn.top_p is 0",
     [](std::string_view key) { return key == "attn.min_keys" || key == "attn.max_keys"; },
     [](const SparsityConfig& config) { return !uses_top_p(config, true); }},
    {"attn.delta is none", [](std::string_view key) { return key == "attn.cache_dtype"; },
     [](const SparsityConfig& config) { return !has_delta(config); }},
    {"mlp.is_enabled is false",
     [](std::string_view key) { return key.starts_with("mlp.") && key != "mlp.is_enabled"; },
     [](const SparsityConfig& config) { return !config.mlp.is_enabled; }},
    {"offloading.global_disable_offloading is true",
     [](std::string_view key) { return key.starts_with("offloading.attn."); },
     [](const SparsityConfig& config) { return config.offloading.global_disable_offloading; }},
    {"no key holds a schedule of steps", [](std::string_view key) { return key == "steps"; },
     [](const SparsityConfig& config) { return !has_schedule(config); }},
    {"step_skipping.rule is off",
     [](std::string_view key) {
       return key.starts_with("step_skipping.") && key != "step_skipping.rule";
     },
     [](const SparsityConfig& config) { return config.step_skipping.rule == SkipRule::kOff; }},
    {"step_skipping.rule is neither easy nor line", is_of_measured_skips,
     [](const SparsityConfig& config) {
       return config.step_skipping.rule != SkipRule::kEasy &&
              config.step_skipping.rule != SkipRule::kLine;
     }},
    {"step_skipping.rule is not schedule",
     [](std::string_view key) { return key == "step_skipping.evaluated_step_schedule"; },
     [](const SparsityConfig& config) { return config.step_skipping.rule != SkipRule::kSchedule; }},
    {"step_skipping.rule is not budget",
     [](std::string_view key) { return key == "step_skipping.max_evaluations"; },
     [](const SparsityConfig& config) { return config.step_skipping.rule != SkipRule::kBudget; }},
    {"step_caching.is_enabled is false",
     [](std::string_view key) { return key == "step_caching.skip_step_schedule"; },
     [](const SparsityConfig& config) { return !config.step_caching.is_enabled; }},
};

}  // namespace

std::string_view find_overruling(const SparsityConfig& config, std::string_view key) {
  for (const Rule& rule : kRules) {
    if (rule.concerns(key) && rule.holds(config)) return rule.reason;
  }
  return {};
}

std::string OverruledKeys::describe() const {
  if (keys.size() == 1) return fmt::format("{} has no effect, because {}", keys.front(), reason);
  const std::vector<std::string> first(keys.begin(), keys.end() - 1);
  return fmt::format("{} and {} have no effect, because {}", fmt::join(first, ", "), keys.back(),
                     reason);
}

std::vector<OverruledKeys> find_overruled(const SparsityConfig& config,
                                          const std::vector<std::string>& given) {
  std::vector<OverruledKeys> overruled;
  for (const std::string& key : given) {
    const std::string_view reason = find_overruling(config, key);
    if (reason.empty()) continue;
    auto found = std::ranges::find(overruled, reason, &OverruledKeys::reason);
    if (found == overruled.end()) {
      found = overruled.insert(found, OverruledKeys{.keys = {}, .reason = reason});
    }
    found->keys.push_back(key);
  }
  return overruled;
}

}  // namespace mochi
