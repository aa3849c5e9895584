#include "study/cost_model.h"

#include <gtest/gtest.h>

namespace mochi::study {
namespace {

constexpr Workload kTenSteps{10, 4};

// Attention takes 8 s of a dense step's 10 s: without dense layers, a sparse step of a quarter of
// the columns takes 2 + 8 / 4 = 4 s.
const CostModel kCosts(kTenSteps, 10, SparseSteps{{0.25, 2, 0, 1}, 13, 4});

TEST(CostModel, PredictsTheSumOverEvaluatedSteps) {
  struct Row {
    Place place;
    double seconds;
  };
  const std::vector<Row> table{
      {{10}, 100},                                         // dense, every step
      {{6}, 60},                                           // skipped steps take no time
      {{10, SparsePlace{0.25, 2, 0, 1}}, 2 * 13 + 8 * 4},  // the measured one
      {{6, SparsePlace{0.25, 2, 0, 1}}, 2 * 13 + 4 * 4},
      {{6, SparsePlace{0.25, 4, 0, 1}}, 4 * 13 + 2 * 4},
      {{10, SparsePlace{0.5, 2, 0, 1}}, 2 * 15 + 8 * 6},                // 8 s · 0.25 more columns
      {{10, SparsePlace{0.25, 2, 2, 1}}, 2 * (13 - 0.29 * 4) + 8 * 7},  // half the layers dense
      {{10, SparsePlace{0.25, 2, 0, 4}}, 2 * (13 - 8 * 0.03) + 8 * 4},
      {{6, SparsePlace{0.25, 9, 0, 1}}, 6 * 13},  // no more full steps than evaluated ones
  };
  for (const Row& row : table) {
    EXPECT_NEAR(kCosts.predict(row.place), row.seconds, 1e-9)
        << row.place.num_evaluated << " " << row.seconds;
  }
}

TEST(CostModel, StaysSensibleWhereSparseAttentionSavesNothingOrAlmostAll) {
  const Place fewest{10, SparsePlace{0.05, 2, 0, 4}};
  const CostModel slower(kTenSteps, 10, SparseSteps{{0.25, 2, 0, 1}, 13, 11});
  EXPECT_NEAR(slower.predict(fewest), 2 * 13 + 8 * 11, 1e-9);
  const CostModel faster(kTenSteps, 10, SparseSteps{{0.25, 2, 0, 1}, 13, 1});
  EXPECT_NEAR(faster.predict({10, SparsePlace{0.05, 0, 0, 1}}), 10 * 0.2, 1e-9);
  const CostModel all_columns(kTenSteps, 10, SparseSteps{{1, 2, 0, 1}, 13, 9});
  EXPECT_NEAR(all_columns.predict(fewest), 2 * 13 + 8 * 9, 1e-9);
}

TEST(CostModel, KnowsDenseAttentionAloneWithoutASparseTrial) {
  const CostModel costs = measure_costs(kTenSteps, std::vector{2.0, 4.0, 3.0}, nullptr);
  EXPECT_TRUE(costs.can_predict({6}));
  EXPECT_FALSE(costs.can_predict({6, SparsePlace{}}));
  EXPECT_EQ(costs.predict({6}), 18);
}

TEST(CostModel, TakesMediansOverThePrompts) {
  Trial start;
  start.config.attn.full_step_schedule = {0, 1};
  start.config.attn.top_keys = 0.25;
  for (const double seconds : {3.0, 90.0, 5.0}) {  // other programs disturbed the second one
    start.evaluations.push_back({.full_step_seconds = 2 * seconds, .sparse_step_seconds = seconds});
  }
  const CostModel costs = measure_costs(kTenSteps, std::vector{8.0, 9.0}, &start);
  EXPECT_EQ(costs.dense_step_seconds(), 8.5);
  ASSERT_TRUE(costs.sparse());
  EXPECT_EQ(costs.sparse()->full_seconds, 10);
  EXPECT_EQ(costs.sparse()->sparse_seconds, 5);
  EXPECT_EQ(costs.sparse()->place.num_full_steps, 2);
  // Columns that top_p chooses are estimated.
  start.config.attn.top_p = 0.9;
  EXPECT_EQ(measure_costs(kTenSteps, std::vector{8.0}, &start).sparse()->place.top_keys, 0.26);
  // A start whose steps are all full ones has measured no sparse step.
  for (Evaluation& evaluation : start.evaluations) evaluation.sparse_step_seconds = 0;
  EXPECT_EQ(measure_costs(kTenSteps, std::vector{8.0}, &start).sparse()->sparse_seconds, 8);
}

TEST(CostModel, Median) {
  EXPECT_EQ(median_of({}), 0);
  EXPECT_EQ(median_of({4}), 4);
  EXPECT_EQ(median_of({4, 1}), 2.5);
  EXPECT_EQ(median_of({9, 1, 4}), 4);
}

}  // namespace
}  // namespace mochi::study
