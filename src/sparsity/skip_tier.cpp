#include <algorithm>
#include <utility>

#include "mochi/sparsity.h"

namespace mochi {
namespace {

constexpr std::array<std::pair<SkipTier, std::string_view>, 3> kTierNames{{
    {SkipTier::kOff, "off"},
    {SkipTier::kCareful, "careful"},
    {SkipTier::kFast, "fast"},
}};

}  // namespace

std::string_view name_of(SkipTier tier) {
  for (const auto& [known, name] : kTierNames) {
    if (known == tier) return name;
  }
  return "?";
}

std::optional<SkipTier> parse_skip_tier(std::string_view name) {
  for (const auto& [tier, known] : kTierNames) {
    if (known == name) return tier;
  }
  return std::nullopt;
}

StepSkipping make_step_skipping(SkipTier tier, int num_steps) {
  StepSkipping skipping;
  switch (tier) {
    case SkipTier::kOff:
      break;
    case SkipTier::kCareful:
      skipping = {.rule = SkipRule::kLine, .threshold = 0.05, .correct_path = true, .warm_up = 2};
      break;
    case SkipTier::kFast:
      skipping = {.rule = SkipRule::kEasy, .threshold = 0.4, .warm_up = 2};
      break;
  }
  return adapt_to_few_steps(skipping, num_steps);
}

StepSkipping adapt_to_few_steps(StepSkipping skipping, int num_steps) {
  constexpr int kFewestSteps = 16;
  constexpr double kStepsOfThresholds = 32;
  if (skipping.rule != SkipRule::kEasy && skipping.rule != SkipRule::kLine) return skipping;
  if (num_steps < kFewestSteps) return {};
  if (skipping.threshold) *skipping.threshold *= std::min(1.0, num_steps / kStepsOfThresholds);
  return skipping;
}

StepSkipping make_step_budget(int max_evaluations) {
  constexpr int kFewestToCorrect = 15;
  return {.rule = SkipRule::kBudget,
          .correct_path = max_evaluations >= kFewestToCorrect,
          .max_evaluations = max_evaluations};
}

}  // namespace mochi
