#include "study/search_space.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <utility>

namespace mochi::study {
namespace {

constexpr std::array kDeltas{DeltaKind::kHalfMerge, DeltaKind::kLseMerge, DeltaKind::kWeighted,
                             DeltaKind::kSubtract};
constexpr std::array kTopKeys{0.05, 0.1, 0.15, 0.2, 0.3, 0.5};
constexpr std::array kNumFullSteps{2, 4, 6, 9, 13};
constexpr std::array kNumDenseLayers{0, 1, 2};
constexpr std::array kScoreQueries{1, 4};

// Budgets of evaluated steps, besides all of them.
constexpr std::array kBudgets{6, 8, 10, 12, 16, 20, 24, 32};

constexpr std::array<std::pair<SearchScope, std::string_view>, 3> kScopeNames{{
    {SearchScope::kBoth, "both"},
    {SearchScope::kSkipping, "skipping"},
    {SearchScope::kSparsity, "sparsity"},
}};

std::vector<int> list_budgets(int num_steps) {
  std::vector<int> budgets;
  std::ranges::copy_if(kBudgets, std::back_inserter(budgets),
                       [&](int budget) { return budget < num_steps; });
  return budgets;
}

// Returns the positions of sparse attention whose number of full steps leaves a sparse one among
// the evaluated steps.
std::vector<SparsePlace> list_sparse_attention(const Workload& workload, int num_evaluated) {
  std::vector<SparsePlace> places;
  for (const int num_dense_layers : kNumDenseLayers) {
    for (const int num_full_steps : kNumFullSteps) {
      if (num_dense_layers >= workload.num_layers || num_full_steps >= num_evaluated) continue;
      for (const double top_keys : kTopKeys) {
        for (const int score_queries : kScoreQueries) {
          places.push_back({top_keys, num_full_steps, num_dense_layers, score_queries});
        }
      }
    }
  }
  return places;
}

SparsePlace sparse_place_of(const SparsityConfig& config, int num_steps) {
  const AttentionSparsity& attn = config.attn;
  return {attn.top_keys, static_cast<int>(list_full_steps(config, num_steps).size()),
          attn.first_n_dense_layers, attn.score_queries};
}

// Returns the steps that are evaluated in any case: the first, the last and all full ones.
std::set<int> list_certain_steps(const SparsityConfig& config, int num_steps) {
  std::set<int> steps{0, num_steps - 1};
  if (config.attn.is_enabled) steps.merge(list_full_steps(config, num_steps));
  if (config.mlp.is_enabled) {
    for (int step = 0; step < num_steps; step += config.mlp.full_step_every) steps.insert(step);
  }
  return steps;
}

// Returns the number of evaluated steps; at most that many if rounding makes steps coincide.
int count_evaluated(const SparsityConfig& config, int num_steps) {
  if (config.step_skipping.rule == SkipRule::kOff) return num_steps;
  const auto num_certain = static_cast<int>(list_certain_steps(config, num_steps).size());
  return std::clamp(config.step_skipping.max_evaluations, num_certain, num_steps);
}

void put_sparse(AttentionSparsity& attn, const SparsePlace& place, int num_steps) {
  attn.top_keys = place.top_keys;
  attn.top_p = 0;
  attn.full_step_schedule = spread_full_steps(place.num_full_steps, num_steps);
  attn.first_n_dense_layers = place.num_dense_layers;
  attn.score_queries = place.score_queries;
}

SparsityConfig make_dense() {
  SparsityConfig config;
  config.patchify_is_enabled = false;
  config.attn.is_enabled = false;
  return config;
}

}  // namespace

std::string_view name_of(SearchScope scope) {
  for (const auto& [known, name] : kScopeNames) {
    if (known == scope) return name;
  }
  return "?";
}

std::optional<SearchScope> parse_search_scope(std::string_view name) {
  for (const auto& [scope, known] : kScopeNames) {
    if (known == name) return scope;
  }
  return std::nullopt;
}

int least_steps(SearchScope scope) {
  constexpr int kLeastSparse = 3;  // with two, all are full
  return scope == SearchScope::kSkipping ? kBudgets.front() + 1 : kLeastSparse;
}

bool is_as_sparse(const Place& a, const Place& b) {
  if (a.num_evaluated > b.num_evaluated) return false;
  if (!b.sparse) return true;
  return a.sparse && a.sparse->top_keys <= b.sparse->top_keys &&
         a.sparse->num_full_steps <= b.sparse->num_full_steps &&
         a.sparse->num_dense_layers <= b.sparse->num_dense_layers &&
         a.sparse->score_queries >= b.sparse->score_queries;
}

bool has_place(const SparsityConfig& config) {
  const SkipRule rule = config.step_skipping.rule;
  const bool is_counted = rule == SkipRule::kOff || rule == SkipRule::kBudget;
  return is_counted && (!config.attn.is_enabled || config.attn.top_p == 0);
}

Place place_of(const SparsityConfig& config, const Workload& workload) {
  Place place{count_evaluated(config, workload.num_steps)};
  if (config.attn.is_enabled) place.sparse = sparse_place_of(config, workload.num_steps);
  return place;
}

SparsityConfig make_config(const SparsityConfig& start, const Place& place,
                           const Workload& workload) {
  SparsityConfig config = place.sparse ? start : make_dense();
  config.steps = workload.num_steps;
  if (place.sparse) put_sparse(config.attn, *place.sparse, workload.num_steps);
  const bool is_every_step = place.num_evaluated == workload.num_steps;
  config.step_skipping = is_every_step ? StepSkipping{} : make_step_budget(place.num_evaluated);
  return config;
}

std::vector<Place> list_skipping_places(const Workload& workload) {
  std::vector<Place> places;
  for (const int budget : list_budgets(workload.num_steps)) places.push_back({budget});
  return places;
}

std::vector<Place> list_sparse_places(const Workload& workload, bool skips_steps) {
  std::vector<int> counts{workload.num_steps};
  if (skips_steps) {
    const std::vector<int> budgets = list_budgets(workload.num_steps);
    counts.insert(counts.end(), budgets.begin(), budgets.end());
  }
  std::vector<Place> places;
  for (const int count : counts) {
    for (const SparsePlace& sparse : list_sparse_attention(workload, count)) {
      places.push_back({count, sparse});
    }
  }
  return places;
}

std::vector<SparsityConfig> list_starts(const SparsityConfig& start) {
  std::vector<SparsityConfig> starts{start};
  for (const DeltaKind delta : kDeltas) {
    if (delta == start.attn.delta) continue;
    starts.push_back(start);
    starts.back().attn.delta = delta;
  }
  return starts;
}

SparsityConfig evaluate_every_step(SparsityConfig start) {
  start.step_skipping = {};
  return start;
}

SparsityConfig fit_start(SparsityConfig start, const Workload& workload) {
  AttentionSparsity& attn = start.attn;
  const auto num_full_steps = static_cast<int>(
      attn.full_step_schedule.value_or(list_full_steps(start, workload.num_steps)).size());
  attn.first_n_dense_layers = std::min(attn.first_n_dense_layers, workload.num_layers - 1);
  attn.full_step_schedule =
      spread_full_steps(std::min(num_full_steps, workload.num_steps - 1), workload.num_steps);
  start.steps = workload.num_steps;
  return start;
}

std::set<int> spread_full_steps(int count, int num_steps) {
  std::set<int> steps{0};
  const double distance = static_cast<double>(num_steps - 1) / (count - 1);
  for (int i = 0; i + 1 < count; ++i) {
    steps.insert(static_cast<int>(std::lround(1 + i * distance)));
  }
  return steps;
}

std::string describe_briefly(const SparsityConfig& config, const Workload& workload) {
  const int num_evaluated = count_evaluated(config, workload.num_steps);
  const std::string steps = num_evaluated == workload.num_steps
                                ? "every step"
                                : fmt::format("{} of {} steps", num_evaluated, workload.num_steps);
  return fmt::format("{}, {}", steps, describe_attention(config, workload.num_steps));
}

std::string describe_attention(const SparsityConfig& config, int num_steps) {
  const AttentionSparsity& attn = config.attn;
  if (!attn.is_enabled) return "dense attention";
  const std::string keys = attn.top_p > 0 ? fmt::format("top_p {:g}", attn.top_p)
                                          : fmt::format("top_keys {:g}", attn.top_keys);
  return fmt::format("{}, {}, full steps {}, dense layers {}, score_queries {}",
                     delta_name(attn.delta), keys, list_full_steps(config, num_steps).size(),
                     attn.first_n_dense_layers, attn.score_queries);
}

}  // namespace mochi::study
