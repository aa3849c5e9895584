#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "study/search_space.h"
#include "study/tune_start.h"

namespace mochi::study {
namespace {

constexpr Workload kMochi{64, 48};

TEST(SearchSpace, FullStepsAreSpread) {
  EXPECT_EQ(spread_full_steps(2, 64), (std::set<int>{0, 1}));
  EXPECT_EQ(spread_full_steps(4, 64), (std::set<int>{0, 1, 22, 43}));
  EXPECT_EQ(spread_full_steps(6, 64), (std::set<int>{0, 1, 14, 26, 39, 51}));
  for (int num_steps = 3; num_steps < 40; ++num_steps) {
    for (int count = 2; count <= num_steps; ++count) {
      const std::set<int> steps = spread_full_steps(count, num_steps);
      EXPECT_EQ(std::ssize(steps), count);
      EXPECT_LT(*steps.rbegin(), num_steps);
    }
  }
}

TEST(SearchSpace, SparserIsCheaper) {
  const std::vector<Candidate> candidates =
      list_candidates(make_start(kMochi), DeltaKind::kWeighted, kMochi);
  EXPECT_EQ(candidates.size(), 180U);
  EXPECT_TRUE(std::ranges::is_sorted(candidates, {}, &Candidate::cost));
  for (const Candidate& a : candidates) {
    EXPECT_LT(a.cost, 1);
    for (const Candidate& b : candidates) {
      if (&a != &b && is_as_sparse(a.place, b.place)) {
        EXPECT_LT(a.cost, b.cost);
      }
    }
  }
}

TEST(SearchSpace, CandidatesDifferAlongTheAxesAlone) {
  SparsityConfig start = make_start(kMochi);
  start.attn.top_p = 0.5;
  EXPECT_FALSE(has_place(start));
  start.attn.random_keys = 0.03;
  std::set<std::string> different;
  for (const Candidate& candidate : list_candidates(start, DeltaKind::kSubtract, kMochi)) {
    SparsityConfig config = candidate.config;
    EXPECT_TRUE(has_place(config));
    different.insert(to_json(config));
    EXPECT_EQ(config.attn.delta, DeltaKind::kSubtract);
    // All else is the start's.
    config.attn.delta = start.attn.delta;
    config.attn.top_p = start.attn.top_p;
    config.attn.top_keys = start.attn.top_keys;
    config.attn.full_step_schedule = start.attn.full_step_schedule;
    config.attn.first_n_dense_layers = start.attn.first_n_dense_layers;
    config.attn.score_queries = start.attn.score_queries;
    EXPECT_EQ(to_json(config), to_json(start));
  }
  EXPECT_EQ(different.size(), 180U);
}

TEST(SearchSpace, SmallWorkloadsHaveSparseStepsAndLayers) {
  for (const Workload workload : {Workload{3, 1}, Workload{4, 2}, Workload{6, 2}}) {
    const auto candidates = list_candidates({}, DeltaKind::kLseMerge, workload);
    EXPECT_FALSE(candidates.empty());
    for (const Candidate& candidate : candidates) {
      EXPECT_LT(candidate.place.num_full_steps, workload.num_steps);
      EXPECT_LT(candidate.place.num_dense_layers, workload.num_layers);
    }
    const Candidate start = make_candidate(make_start(workload), workload);
    EXPECT_LT(start.place.num_full_steps, workload.num_steps);
    EXPECT_LT(start.place.num_dense_layers, workload.num_layers);
  }
}

TEST(SearchSpace, StartsDifferInTheDeltaAlone) {
  SparsityConfig start;
  start.attn.delta = DeltaKind::kWeighted;
  std::vector<DeltaKind> deltas;
  for (const SparsityConfig& config : list_starts(start)) deltas.push_back(config.attn.delta);
  EXPECT_EQ(deltas, (std::vector{DeltaKind::kWeighted, DeltaKind::kHalfMerge, DeltaKind::kLseMerge,
                                 DeltaKind::kSubtract}));
  start.attn.delta = DeltaKind::kNone;
  EXPECT_EQ(list_starts(start).size(), 5U);
}

TEST(SearchSpace, TheStartIsTheBundledFileAsFarAsItFits) {
  const SparsityConfig box = load_box();
  SparsityConfig start = make_start({64, 48});
  EXPECT_EQ(start.attn.full_step_schedule, (std::set<int>{0, 1, 14, 26, 39, 51}));
  start.attn.full_step_schedule = box.attn.full_step_schedule;
  EXPECT_EQ(to_json(start), to_json(box));
  start = make_start({4, 2});
  EXPECT_EQ(start.attn.full_step_schedule, (std::set<int>{0, 1, 3}));
  EXPECT_EQ(start.attn.first_n_dense_layers, 1);
  SparsityConfig every_second;
  every_second.attn.full_step_every = 2;
  EXPECT_EQ(fit_start(every_second, {8, 4}).attn.full_step_schedule->size(), 5U);
}

TEST(SearchSpace, DescribesConfigurations) {
  const SparsityConfig start = make_start(kMochi);
  EXPECT_EQ(describe_briefly(start, 64),
            "half_merge, top_keys 0.15, full steps 6, dense layers 2, score_queries 1");
}

}  // namespace
}  // namespace mochi::study
