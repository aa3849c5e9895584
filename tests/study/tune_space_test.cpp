#include <gtest/gtest.h>

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

TEST(SearchSpace, HasBudgetsAndSparseAttention) {
  EXPECT_EQ(list_skipping_places(kMochi).size(), 8U);
  EXPECT_EQ(list_sparse_places(kMochi, false).size(), 180U);
  const std::vector<Place> places = list_sparse_places(kMochi, true);
  // At 6, 8, 10 and 12 evaluations, 2, 3, 4 and 4 numbers of full steps leave a sparse step.
  EXPECT_EQ(places.size(), 5 * 180U + (2 + 3 + 4 + 4) * 36U);
  for (const Place& place : places) {
    EXPECT_LT(place.sparse.value().num_full_steps, place.num_evaluated);
  }
  EXPECT_EQ(list_skipping_places({12, 4}).size(), 3U);
  EXPECT_EQ(list_skipping_places({6, 4}).size(), 0U);
  for (const SearchScope scope : kSearchScopes) {
    const Workload least{least_steps(scope), 2};
    EXPECT_EQ(parse_search_scope(name_of(scope)), scope);
    EXPECT_FALSE(list_skipping_places(least).empty() && list_sparse_places(least, true).empty());
  }
}

TEST(SearchSpace, DenseAttentionIsTheDenseEndOfAllAxes) {
  const Place dense{16};
  const SparsePlace sparse{0.1, 4, 1, 1};
  EXPECT_TRUE(is_as_sparse({16, sparse}, dense));
  EXPECT_TRUE(is_as_sparse({12, sparse}, dense));
  EXPECT_TRUE(is_as_sparse({12}, dense));
  EXPECT_FALSE(is_as_sparse(dense, {12}));
  EXPECT_FALSE(is_as_sparse({20, sparse}, dense));
  EXPECT_FALSE(is_as_sparse(dense, {16, sparse}));
  EXPECT_FALSE(is_as_sparse(dense, {64, sparse}));
}

TEST(SearchSpace, EveryAxisCounts) {
  const Place place{16, SparsePlace{0.1, 4, 1, 4}};
  EXPECT_TRUE(is_as_sparse(place, place));
  for (const Place& denser :
       {Place{20, SparsePlace{0.1, 4, 1, 4}}, Place{16, SparsePlace{0.2, 4, 1, 4}},
        Place{16, SparsePlace{0.1, 6, 1, 4}}, Place{16, SparsePlace{0.1, 4, 2, 4}},
        Place{16, SparsePlace{0.1, 4, 1, 1}}}) {
    EXPECT_TRUE(is_as_sparse(place, denser));
    EXPECT_FALSE(is_as_sparse(denser, place));
  }
}

TEST(SearchSpace, ConfigurationsDifferAlongTheAxesAlone) {
  SparsityConfig start = make_start(kMochi);
  start.attn.top_p = 0.5;
  EXPECT_FALSE(has_place(start));
  start.attn.random_keys = 0.03;
  std::set<std::string> different;
  const std::vector<Place> places = list_sparse_places(kMochi, true);
  for (const Place& place : places) {
    SparsityConfig config = make_config(start, place, kMochi);
    EXPECT_TRUE(has_place(config));
    const Place same = place_of(config, kMochi);
    EXPECT_TRUE(is_as_sparse(same, place) && is_as_sparse(place, same)) << to_json(config);
    different.insert(to_json(config));
    // All else is the start's.
    config.attn.top_p = start.attn.top_p;
    config.attn.top_keys = start.attn.top_keys;
    config.attn.full_step_schedule = start.attn.full_step_schedule;
    config.attn.first_n_dense_layers = start.attn.first_n_dense_layers;
    config.attn.score_queries = start.attn.score_queries;
    config.step_skipping = start.step_skipping;
    EXPECT_EQ(to_json(config), to_json(start));
  }
  EXPECT_EQ(different.size(), places.size());
}

TEST(SearchSpace, DenseConfigurationsSkipStepsAlone) {
  SparsityConfig start = make_start(kMochi);
  start.step_skipping = make_step_skipping(SkipTier::kFast, 64);
  EXPECT_FALSE(has_place(start));
  start.mlp.is_enabled = true;
  const SparsityConfig config = make_config(start, {12}, kMochi);
  EXPECT_FALSE(config.attn.is_enabled || config.mlp.is_enabled || config.patchify_is_enabled);
  EXPECT_EQ(config.step_skipping.rule, SkipRule::kBudget);
  EXPECT_EQ(config.step_skipping.max_evaluations, 12);
  EXPECT_FALSE(config.step_skipping.correct_path);
  EXPECT_TRUE(make_config(start, {16}, kMochi).step_skipping.correct_path);
  EXPECT_EQ(place_of(config, kMochi).num_evaluated, 12);
  const SparsityConfig every = evaluate_every_step(start);
  EXPECT_TRUE(has_place(every));
  EXPECT_EQ(place_of(every, kMochi).num_evaluated, 64);
}

TEST(SearchSpace, FullStepsAreEvaluatedWhateverTheBudget) {
  SparsityConfig config = make_config(make_start(kMochi), {8, SparsePlace{0.1, 13, 0, 1}}, kMochi);
  EXPECT_EQ(place_of(config, kMochi).num_evaluated, 14);  // 13 full steps and the last one
  config.mlp.is_enabled = true;
  config.mlp.full_step_every = 2;
  EXPECT_GE(place_of(config, kMochi).num_evaluated, 33);
}

TEST(SearchSpace, SmallWorkloadsHaveSparseStepsAndLayers) {
  for (const Workload workload : {Workload{3, 1}, Workload{4, 2}, Workload{6, 2}}) {
    const std::vector<Place> places = list_sparse_places(workload, true);
    EXPECT_FALSE(places.empty());
    for (const Place& place : places) {
      EXPECT_LT(place.sparse.value().num_full_steps, workload.num_steps);
      EXPECT_LT(place.sparse.value().num_dense_layers, workload.num_layers);
    }
    const SparsePlace start = place_of(make_start(workload), workload).sparse.value();
    EXPECT_LT(start.num_full_steps, workload.num_steps);
    EXPECT_LT(start.num_dense_layers, workload.num_layers);
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
  EXPECT_EQ(describe_briefly(start, kMochi),
            "every step, half_merge, top_keys 0.15, full steps 6, dense layers 2, score_queries 1");
  EXPECT_EQ(describe_briefly(make_config(start, {12}, kMochi), kMochi),
            "12 of 64 steps, dense attention");
  const SparsityConfig both = make_config(start, {16, SparsePlace{0.3, 4, 0, 4}}, kMochi);
  EXPECT_EQ(describe_briefly(both, kMochi),
            "16 of 64 steps, half_merge, top_keys 0.3, full steps 4, dense layers 0, "
            "score_queries 4");
}

}  // namespace
}  // namespace mochi::study
