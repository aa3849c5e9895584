#include "study/search_space.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace mochi::study {
namespace {

constexpr std::array kDeltas{DeltaKind::kHalfMerge, DeltaKind::kLseMerge, DeltaKind::kWeighted,
                             DeltaKind::kSubtract};
constexpr std::array kTopKeys{0.05, 0.1, 0.15, 0.2, 0.3, 0.5};
constexpr std::array kNumFullSteps{2, 4, 6, 9, 13};
constexpr std::array kNumDenseLayers{0, 1, 2};
constexpr std::array kScoreQueries{1, 4};

// Relative to dense attention, about as on a CPU (bench/results/cpu-sparse.md).
constexpr double kScoringCost = 0.04;

SparsityConfig put(const SparsityConfig& start, const Place& place, DeltaKind delta,
                   int num_steps) {
  SparsityConfig config = start;
  config.attn.delta = delta;
  config.attn.top_keys = place.top_keys;
  config.attn.top_p = 0;
  config.steps = num_steps;
  config.attn.full_step_schedule = spread_full_steps(place.num_full_steps, num_steps);
  config.attn.first_n_dense_layers = place.num_dense_layers;
  config.attn.score_queries = place.score_queries;
  return config;
}

std::vector<Place> list_places(const Workload& workload) {
  std::vector<Place> places;
  for (const int num_dense_layers : kNumDenseLayers) {
    for (const int num_full_steps : kNumFullSteps) {
      if (num_dense_layers >= workload.num_layers || num_full_steps >= workload.num_steps) continue;
      for (const double top_keys : kTopKeys) {
        for (const int score_queries : kScoreQueries) {
          places.push_back({top_keys, num_full_steps, num_dense_layers, score_queries});
        }
      }
    }
  }
  return places;
}

}  // namespace

bool is_as_sparse(const Place& a, const Place& b) {
  return a.top_keys <= b.top_keys && a.num_full_steps <= b.num_full_steps &&
         a.num_dense_layers <= b.num_dense_layers && a.score_queries >= b.score_queries;
}

double estimate_cost(const Place& place, const Workload& workload) {
  const double num_layers = workload.num_layers;
  const double dense_part = std::min(place.num_dense_layers / num_layers, 1.0);
  const double full_part = static_cast<double>(place.num_full_steps) / workload.num_steps;
  const double full_step = 1 + place.top_keys + kScoringCost / place.score_queries;
  return dense_part + (1 - dense_part) * (full_part * full_step + (1 - full_part) * place.top_keys);
}

bool has_place(const SparsityConfig& config) { return config.attn.top_p == 0; }

Candidate make_candidate(const SparsityConfig& config, const Workload& workload) {
  const AttentionSparsity& attn = config.attn;
  const auto num_full_steps = static_cast<int>(list_full_steps(config, workload.num_steps).size());
  const Place place{attn.top_keys, num_full_steps, attn.first_n_dense_layers, attn.score_queries};
  return {config, place, estimate_cost(place, workload)};
}

std::vector<Candidate> list_candidates(const SparsityConfig& start, DeltaKind delta,
                                       const Workload& workload) {
  std::vector<Candidate> candidates;
  for (const Place& place : list_places(workload)) {
    candidates.push_back(make_candidate(put(start, place, delta, workload.num_steps), workload));
  }
  std::ranges::stable_sort(candidates, {}, &Candidate::cost);
  return candidates;
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

std::string describe_briefly(const SparsityConfig& config, int num_steps) {
  const AttentionSparsity& attn = config.attn;
  const std::string keys = attn.top_p > 0 ? fmt::format("top_p {:g}", attn.top_p)
                                          : fmt::format("top_keys {:g}", attn.top_keys);
  return fmt::format("{}, {}, full steps {}, dense layers {}, score_queries {}",
                     delta_name(attn.delta), keys, list_full_steps(config, num_steps).size(),
                     attn.first_n_dense_layers, attn.score_queries);
}

}  // namespace mochi::study
