#include "sparsity/config_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace mochi {
namespace {

// "a, b or c"
template <typename Names>
std::string list_names(const Names& names) {
  std::string list;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i > 0) list += i + 1 < names.size() ? ", " : " or ";
    list += names[i].first;
  }
  return list;
}

// Keeps the first problem that it is shown.
class Checker {
 public:
  const std::optional<ConfigProblem>& found() const { return found_; }

  void check(const std::string& /*key*/, bool /*value*/) {}
  void check(const std::string& key, int value, const ValueRange& range) {
    if (value < range.min || value > range.max) refuse(key, describe_wanted(value, range), value);
  }
  void check(const std::string& key, double value, const ValueRange& range) {
    if (!(range.min <= value && value <= range.max)) {  // NaN, too
      refuse(key, describe_wanted(value, range), value);
    }
  }
  void check(const std::string& key, const std::set<int>& steps) {
    for (const int step : steps) check(key, step, kCount);
  }
  void check(const std::string& key, DeltaKind value) { check_name(key, value, kDeltaNames); }
  void check(const std::string& key, CacheDType value) { check_name(key, value, kCacheDTypeNames); }
  void check(const std::string& key, SkipRule value) { check_name(key, value, kSkipRuleNames); }
  void check(const std::string& key, Extrapolation value) {
    check_name(key, value, kExtrapolationNames);
  }
  void check(const std::string& key, const IntRange& range) {
    if (range.first < 0 || range.last < range.first) {
      refuse(key, "a range such as 0-5", fmt::format("{}-{}", range.first, range.last));
    }
  }
  template <typename Value, typename... Range>
  void check(const std::string& key, const std::optional<Value>& value, const Range&... range) {
    if (value) check(key, *value, range...);
  }

  template <typename Found>
  void refuse(const std::string& key, const std::string& wanted, const Found& found) {
    if (!found_) found_ = ConfigProblem{key, fmt::format("wanted {}, found {}", wanted, found)};
  }

 private:
  template <typename Value, typename Names>
  void check_name(const std::string& key, Value value, const Names& names) {
    const bool is_known =
        std::ranges::any_of(names, [&](const auto& name) { return name.second == value; });
    if (!is_known) refuse(key, describe_wanted(value), static_cast<int>(value));
  }

  std::optional<ConfigProblem> found_;
};

void check_overrides(const SparsityConfig& config, Checker& checker) {
  for (std::size_t i = 0; i < config.overrides.size(); ++i) {
    const SparsityOverride& entry = config.overrides[i];
    checker.check(name_override_key(i, "layers"), entry.layers);
    checker.check(name_override_key(i, "steps"), entry.steps);
    visit_override_keys(entry, [&](const char* key, const auto& value, const auto&... range) {
      checker.check(name_override_key(i, key), value, range...);
    });
  }
}

void check_combinations(const AttentionSparsity& attn, Checker& checker) {
  if (std::ranges::none_of(
          kVoxelSizes, [&](const VoxelSize& size) { return size.group_size == attn.group_size; })) {
    checker.refuse("attn.mbm", "192, 128 or 64", attn.group_size);
  }
  if (attn.min_keys > attn.max_keys) {
    checker.refuse("attn.min_keys", fmt::format("at most attn.max_keys = {}", attn.max_keys),
                   attn.min_keys);
  }
}

void check_skipping(const StepSkipping& skipping, Checker& checker) {
  if (skipping.rule == SkipRule::kSchedule && skipping.evaluated_steps.empty()) {
    checker.refuse("step_skipping.evaluated_step_schedule", "steps, because the rule is schedule",
                   "none");
  }
  if (skipping.rule == SkipRule::kBudget && skipping.max_evaluations < 1) {
    checker.refuse("step_skipping.max_evaluations", "1 or more, because the rule is budget",
                   skipping.max_evaluations);
  }
  if (skipping.correct_path && skipping.extrapolation != Extrapolation::kHold) {
    checker.refuse("step_skipping.correct_path", "false, because the extrapolation is not hold",
                   "true");
  }
}

}  // namespace

std::string describe_wanted(double /*number*/, const ValueRange& range) {
  return fmt::format("{} to {}", range.min, range.max);
}

std::string describe_wanted(int /*number*/, const ValueRange& range) {
  return fmt::format("a whole number from {} to {}", range.min, range.max);
}

std::string describe_wanted(DeltaKind /*delta*/) { return list_names(kDeltaNames); }

std::string describe_wanted(CacheDType /*dtype*/) { return list_names(kCacheDTypeNames); }

std::string describe_wanted(SkipRule /*rule*/) { return list_names(kSkipRuleNames); }

std::string describe_wanted(Extrapolation /*extrapolation*/) {
  return list_names(kExtrapolationNames);
}

std::string name_override_key(std::size_t entry_idx, std::string_view key) {
  return fmt::format("overrides[{}].{}", entry_idx, key);
}

std::optional<ConfigProblem> find_problem(const SparsityConfig& config) {
  Checker checker;
  visit_sparsity_keys(config, [&](const char* key, const auto& value, const auto&... range) {
    checker.check(key, value, range...);
  });
  check_overrides(config, checker);
  check_combinations(config.attn, checker);
  check_skipping(config.step_skipping, checker);
  return checker.found();
}

void validate(const SparsityConfig& config) {
  const std::optional<ConfigProblem> found = find_problem(config);
  if (found) throw InvalidRequest(found->key, found->problem);
}

}  // namespace mochi
