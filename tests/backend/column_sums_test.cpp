// Column sums of dense attention compared with literal loops in double.
#include <gtest/gtest.h>

#include "backend/sparse_ops_fixture.h"

namespace mochi {
namespace {

using ColumnSumsOp = OverBackends<SparseOpsFixture>;
INSTANTIATE_TEST_SUITE_P(On, ColumnSumsOp, all_backends(), name_of_case);

TEST_P(ColumnSumsOp, SumsEqualThoseOfDenseProbabilities) {
  for (const Sizes& sizes : kSizes) {
    const Problem p = make_problem(2, sizes.tokens, sizes.head_dim);
    const Reference dense = attend(p, all_columns(p, 64), 64);
    for (const std::int64_t stride : {1, 4, 16, 64}) {
      const std::int64_t num_groups = (sizes.tokens + sizes.group_size - 1) / sizes.group_size;
      const Tensor former = random(p.lse_shape());
      const Tensor sums = poisoned({2, num_groups, sizes.tokens});
      const Tensor out = poisoned(p.out_shape());
      const Tensor lse = poisoned(p.lse_shape());
      backend_->run(ops::AttentionWithColumnSums{.in = p.in,
                                                 .scores_lse = former,
                                                 .sums = sums,
                                                 .group_size = sizes.group_size,
                                                 .query_stride = stride,
                                                 .to = {out, lse}});
      std::vector<double> want(static_cast<std::size_t>(sums.view().num_elements()));
      for (std::int64_t head = 0; head < 2; ++head) {
        for (std::int64_t query = 0; query < sizes.tokens; ++query) {
          if (query % sizes.group_size % stride != 0) continue;
          const double minus = former.view().f32()[head * sizes.tokens + query];
          double* row = want.data() + (head * num_groups + query / sizes.group_size) * sizes.tokens;
          for (std::int64_t key = 0; key < sizes.tokens; ++key) {
            row[key] += std::exp(logit(p, head, query, key) - minus);
          }
        }
      }
      EXPECT_LE(error(sums, want), limit(2e-6)) << sizes.tokens << " " << stride;
      EXPECT_LE(error(out, dense.out), limit(1e-6));
      EXPECT_LE(error(lse, dense.lse), limit(1e-6));
    }
  }
}

// A form of sums, with an old log-sum-exp that is off by `shift` or, for every other query, by
// −shift, except for queries before `first_off`.
struct SumsCase {
  std::int64_t heads, num_queries, num_keys, group_size, stride;
  float shift;
  bool takes_turns;
  std::int64_t first_off = 0;
};
constexpr SumsCase kSumsCases[] = {
    {2, 1, 1, 192, 1, 0.0F, false},             // one of everything
    {2, 193, 127, 192, 1, 1.0F, true},          // a group of one query; not a whole key tile
    {1, 400, 129, 192, 4, 1.0F, true},          // a key tile of one key; a group of 16
    {2, 577, 300, 64, 1, 1.0F, true},           // smaller groups; blocks begin with the last one
    {2, 577, 300, 64, 4, -20.0F, false},        //
    {1, 320, 257, 100, 1, 1.0F, true},          // groups that no block fits
    {1, 400, 200, 192, 2, 20.0F, true},         //
    {1, 400, 200, 192, 3, -20.0F, false},       // a group's last query is not counted
    {1, 400, 200, 192, 8, 20.0F, false},        //
    {1, 400, 200, 192, 500, -20.0F, true},      // only the first is counted
    {2, 400, 200, 192, 1, 70.0F, false},        // weights that would vanish
    {2, 400, 200, 192, 4, -70.0F, true},        // weights beyond fp32's range next to others
    {150, 3, 5, 192, 1, 1.0F, true},            // more heads than a GPU has blocks
    {150, 65, 3, 64, 4, -60.0F, false},         //
    {2, 100, 129, 128, 1, 1.0F, true},          // two blocks have room for three groups: one exists
    {2, 150, 300, 128, 4, -1.0F, false},        // two, both in the first block
    {1, 200, 900, 128, 3, 1.0F, true},          // two, the second in both blocks
    {2, 384, 257, 128, 1, 20.0F, false},        // three
    {1, 384, 130, 128, 3, -20.0F, true},        //
    {2, 400, 127, 128, 4, 1.0F, true},          // a fourth, of 16 queries
    {1, 577, 300, 128, 1, -1.0F, true},         // a fifth, of one query in the second block
    {1, 640, 200, 128, 3, 1.0F, true},          // five whole ones
    {1, 768, 129, 128, 4, 1.0F, true},          // six
    {150, 200, 5, 128, 1, 1.0F, true},          // more heads than a GPU has blocks
    {2, 400, 200, 128, 1, 70.0F, false},        // weights that would vanish
    {1, 577, 300, 128, 4, -70.0F, true},        // weights beyond fp32's range next to others
    {2, 800, 200, 128, 3, -70.0F, true, 600},   // only in the second pair of blocks and the third
    {1, 800, 200, 128, 1, 70.0F, false, 799},   // only in the last query
    {150, 385, 3, 128, 4, -70.0F, false, 384},  //
};

TEST_P(ColumnSumsOp, SumsAreRelativeToTheFormerLse) {
  for (const SumsCase& c : kSumsCases) {
    const Problem p = make_problem(c.heads, c.num_queries, c.num_keys, 128);
    const Reference dense = attend(p, all_columns(p, c.group_size), c.group_size);
    const std::int64_t num_groups = (c.num_queries + c.group_size - 1) / c.group_size;
    const Tensor former(DType::kF32, p.lse_shape());
    for (std::size_t row = 0; row < dense.lse.size(); ++row) {
      const bool is_off = static_cast<std::int64_t>(row) % c.num_queries >= c.first_off;
      const bool is_less = c.takes_turns && row % 2 == 1;
      const float shift = is_less ? -c.shift : c.shift;
      former.view().f32()[row] = static_cast<float>(dense.lse[row]) + (is_off ? shift : 0.0F);
    }
    std::vector<double> want(static_cast<std::size_t>(c.heads * num_groups * c.num_keys));
    for (std::int64_t row = 0; row < c.heads * c.num_queries; ++row) {
      const std::int64_t head = row / c.num_queries;
      const std::int64_t query = row % c.num_queries;
      if (query % c.group_size % c.stride != 0) continue;
      double* sums = want.data() + (head * num_groups + query / c.group_size) * c.num_keys;
      for (std::int64_t key = 0; key < c.num_keys; ++key) {
        sums[key] += std::exp(logit(p, head, query, key) - former.view().f32()[row]);
      }
    }
    std::vector<std::vector<float>> runs;
    for (int run = 0; run < 2; ++run) {
      const Tensor sums = poisoned({c.heads, num_groups, c.num_keys});
      const Tensor out = poisoned(p.out_shape());
      const Tensor lse = poisoned(p.lse_shape());
      backend_->run(ops::AttentionWithColumnSums{.in = p.in,
                                                 .scores_lse = former,
                                                 .sums = sums,
                                                 .group_size = c.group_size,
                                                 .query_stride = c.stride,
                                                 .to = {out, lse}});
      EXPECT_LE(error(sums, want), 2e-5) << c.num_queries << " " << c.stride << " " << c.shift;
      EXPECT_LE(error(out, dense.out), limit(1e-6)) << c.num_queries << " " << c.shift;
      EXPECT_LE(error(lse, dense.lse), limit(1e-6)) << c.num_queries << " " << c.shift;
      runs.emplace_back(sums.view().f32().begin(), sums.view().f32().end());
    }
    EXPECT_EQ(runs[0], runs[1]);
  }
}

}  // namespace
}  // namespace mochi
