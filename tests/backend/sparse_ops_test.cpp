// Attention with lse, chosen columns and deltas compared with literal loops in double.
#include <gtest/gtest.h>

#include "backend/sparse_ops_fixture.h"
#include "base/error.h"
#include "base/parallel_for.h"
#include "base/temp_folder.h"

namespace mochi {
namespace {

using SparseOps = OverBackends<SparseOpsFixture>;
INSTANTIATE_TEST_SUITE_P(On, SparseOps, all_backends(), name_of_case);
using SparseOpsOnCpu = OnCpu<SparseOpsFixture>;

TEST_P(SparseOps, DenseAttentionGivesItsLse) {
  for (const Sizes& sizes : kSizes) {
    const Problem p = make_problem(2, sizes.tokens, sizes.head_dim);
    const Tensor out = poisoned(p.out_shape());
    const Tensor lse = poisoned(p.lse_shape());
    backend_->run(ops::Attention{.in = p.in, .to = {out, lse}});
    const Reference want = attend(p, all_columns(p, 64), 64);
    EXPECT_LE(error(out, want.out), limit(1e-6)) << sizes.tokens;
    EXPECT_LE(error(lse, want.lse), limit(1e-6)) << sizes.tokens;
  }
}

TEST_P(SparseOps, OnlyChosenColumnsAreAttended) {
  for (const Sizes& sizes : kSizesOfLists) {
    const Problem p = make_problem(2, sizes.tokens, sizes.head_dim);
    if (sizes.tokens < 2) continue;
    const Lists lists = some_columns(p, sizes.group_size);
    const DeviceLists columns = upload(lists, sizes.group_size);
    const Tensor out = poisoned(p.out_shape());
    const Tensor lse = poisoned(p.lse_shape());
    backend_->run(
        ops::ColumnSparseAttention{.in = p.in, .columns = columns.view, .to = {out, lse}});
    const Reference want = attend(p, lists, sizes.group_size);
    EXPECT_LE(error(out, want.out), limit(1e-6)) << sizes.tokens;
    EXPECT_LE(error(lse, want.lse), limit(1e-6)) << sizes.tokens;
  }
}

TEST_P(SparseOps, AllColumnsAreDenseAttention) {
  for (const Sizes& sizes : kSizesOfLists) {
    const Problem p = make_problem(2, sizes.tokens, sizes.head_dim);
    const DeviceLists columns = upload(all_columns(p, sizes.group_size), sizes.group_size);
    const Tensor dense = poisoned(p.out_shape());
    const Tensor out = poisoned(p.out_shape());
    backend_->run(ops::Attention{.in = p.in, .to = {dense}});
    backend_->run(ops::ColumnSparseAttention{.in = p.in, .columns = columns.view, .to = {out}});
    EXPECT_LE(error(out, dense.view()), limit(1e-6)) << sizes.tokens;
  }
}

TEST_F(SparseOpsOnCpu, TheNumberOfThreadsChangesNothing) {
  const Problem p = make_problem(3, 385, 64);
  const DeviceLists columns = upload(some_columns(p, 192), 192);
  const auto run = [&](int num_threads) {
    set_num_threads(num_threads);
    const Tensor out = poisoned(p.out_shape());
    backend_->run(ops::ColumnSparseAttention{.in = p.in, .columns = columns.view, .to = {out}});
    set_num_threads(0);
    return std::vector<float>(out.view().f32().begin(), out.view().f32().end());
  };
  EXPECT_EQ(run(1), run(3));
}

// Just after a full step every form of delta restores the dense result.
TEST_P(SparseOps, DeltasRestoreTheDenseOutput) {
  for (const Sizes& sizes : kSizesOfLists) {
    const Problem p = make_problem(2, sizes.tokens, sizes.head_dim);
    Lists lists =
        sizes.tokens < 2 ? all_columns(p, sizes.group_size) : some_columns(p, sizes.group_size);
    lists.back() = all_columns(p, sizes.group_size).back();  // nothing is left out in this list
    const DeviceLists columns = upload(lists, sizes.group_size);
    const Tensor dense = poisoned(p.out_shape());
    const Tensor dense_lse = poisoned(p.lse_shape());
    const Tensor sparse = poisoned(p.out_shape());
    const Tensor sparse_lse = poisoned(p.lse_shape());
    backend_->run(ops::Attention{.in = p.in, .to = {dense, dense_lse}});
    backend_->run(ops::ColumnSparseAttention{
        .in = p.in, .columns = columns.view, .to = {sparse, sparse_lse}});
    for (const DeltaForm& form : kDeltaForms) {
      const Tensor cache = poisoned(p.out_shape());
      const Tensor weight = poisoned(p.lse_shape());
      const AttentionDelta delta = form.with(cache, weight);
      backend_->run(ops::FindDelta{
          .dense = {dense, dense_lse}, .sparse = {sparse, sparse_lse}, .delta = delta});
      const Tensor out = poisoned(p.out_shape());
      backend_->run(ops::ColumnSparseAttention{
          .in = p.in, .columns = columns.view, .delta = delta, .to = {out}});
      // The cache is rounded as an activation and may be larger than the result: 5.0e-3.
      EXPECT_LE(error(out, dense.view()), limit(2e-6, 2.0))
          << sizes.tokens << form.has_weight << form.is_merged << form.follow;
    }
  }
}

// Tests the formulas, with other queries, keys and values than those the delta was computed from.
TEST_P(SparseOps, DeltasAreAppliedAsDescribed) {
  for (const Sizes& sizes : {Sizes{200, 64, 64}, {333, 128, 192}, {150, 128, 128}}) {
    const Problem p = make_problem(2, sizes.tokens, sizes.head_dim);
    const Lists lists = some_columns(p, sizes.group_size);
    const DeviceLists columns = upload(lists, sizes.group_size);
    const Reference chosen = attend(p, lists, sizes.group_size);
    const Tensor cache = random(p.out_shape());
    const Tensor weight = random(p.lse_shape());
    for (const DeltaForm& form : kDeltaForms) {
      const Tensor out = poisoned(p.out_shape());
      const Tensor lse = poisoned(p.lse_shape());
      backend_->run(ops::ColumnSparseAttention{.in = p.in,
                                               .columns = columns.view,
                                               .delta = form.with(cache, weight),
                                               .to = {out, lse}});
      std::vector<double> want(chosen.out.size());
      for (std::size_t i = 0; i < want.size(); ++i) {
        const auto head_dim = static_cast<std::size_t>(sizes.head_dim);
        const std::size_t query = i / (2 * head_dim);
        const std::size_t row =
            i % (2 * head_dim) / head_dim * static_cast<std::size_t>(sizes.tokens) + query;
        const double w = form.has_weight ? weight.view().f32()[row] : 1.0;
        const double c = cache.view().f32()[i];
        if (form.is_merged) {
          const double a = std::exp(chosen.lse[row]);
          const double rest = std::exp(w + form.follow * chosen.lse[row]);
          want[i] = (a * chosen.out[i] + rest * c) / (a + rest);
        } else {
          want[i] = c + w * chosen.out[i];
        }
      }
      EXPECT_LE(error(out, want), limit(2e-6))
          << sizes.tokens << form.has_weight << form.is_merged << form.follow;
      EXPECT_LE(error(lse, chosen.lse), limit(1e-6)) << sizes.tokens;
    }
  }
}

// Lists end in, at and just after a tile of keys, and one is much longer than the others.
TEST_P(SparseOps, ListsMayHaveAnyLength) {
  const Problem p = make_problem(2, 700, 128);
  Lists lists = all_columns(p, 192);
  const std::size_t lengths[] = {1, 127, 128, 129, 256, 257, 383, 700};
  ASSERT_EQ(lists.size(), std::size(lengths));
  for (std::size_t i = 0; i < lists.size(); ++i) {
    std::ranges::shuffle(lists[i], generator_);
    lists[i].resize(lengths[i]);
    std::ranges::sort(lists[i]);
  }
  const DeviceLists columns = upload(lists, 192);
  const Tensor out = poisoned(p.out_shape());
  const Tensor lse = poisoned(p.lse_shape());
  backend_->run(ops::ColumnSparseAttention{.in = p.in, .columns = columns.view, .to = {out, lse}});
  const Reference want = attend(p, lists, 192);
  EXPECT_LE(error(out, want.out), limit(1e-6));
  EXPECT_LE(error(lse, want.lse), limit(1e-6));
}

// On a GPU there are several times more groups than multiprocessors, so blocks take one after
// another; which block takes which group changes no bit. The last of the groups of 256 has less
// than half of its queries.
TEST_P(SparseOps, ManyGroupsAreAllComputedTheSameEveryTime) {
  struct Many {
    std::int64_t heads, tokens, group_size;
  };
  const Many narrow{is_cpu() ? 2 : 16, 1700, 64};
  const Many wide{is_cpu() ? 10 : 150, 300, 256};
  for (const auto& [heads, tokens, group_size] : {narrow, wide}) {
    const Problem p = make_problem(heads, tokens, 128);
    Lists lists = all_columns(p, group_size);
    for (std::size_t i = 0; i < lists.size(); ++i) {
      std::ranges::shuffle(lists[i], generator_);
      lists[i].resize(i % 97 == 0 ? 290 : generator_() % 40 + 1);
      std::ranges::sort(lists[i]);
    }
    const DeviceLists columns = upload(lists, group_size);
    const Tensor cache = random(p.out_shape());
    const Tensor weight = random(p.lse_shape());
    const AttentionDelta delta{cache, weight};
    const Tensor out = poisoned(p.out_shape());
    backend_->run(ops::ColumnSparseAttention{
        .in = p.in, .columns = columns.view, .delta = delta, .to = {out}});
    std::vector<double> want = attend(p, lists, group_size).out;
    for (std::size_t i = 0; i < want.size(); ++i) {
      const auto width = static_cast<std::size_t>(heads * 128);
      const std::size_t row = i % width / 128 * static_cast<std::size_t>(tokens) + i / width;
      want[i] = cache.view().f32()[i] + weight.view().f32()[row] * want[i];
    }
    EXPECT_LE(error(out, want), limit(2e-6)) << tokens;
    for (int i = 0; i < 3; ++i) {
      const Tensor again = poisoned(p.out_shape());
      backend_->run(ops::ColumnSparseAttention{
          .in = p.in, .columns = columns.view, .delta = delta, .to = {again}});
      EXPECT_TRUE(std::ranges::equal(again.view().f32(), out.view().f32())) << tokens;
    }
  }
}

TEST_P(SparseOps, GatherRowsTakesRows) {
  const Tensor x = random({5, 3});
  const Tensor out = poisoned({4, 3});
  backend_->run(ops::GatherRows{.x = x, .indices = ints({4, 0, 0, 2}, {4}), .out = out});
  for (const auto& [row, from] : {std::pair{0, 4}, {1, 0}, {2, 0}, {3, 2}}) {
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(out.view().f32()[row * 3 + i], x.view().f32()[from * 3 + i]);
    }
  }
}

TEST_P(SparseOps, ContractsNameTheOperation) {
  const Problem p = make_problem(2, 64, 16);
  const Tensor out = poisoned(p.out_shape());
  const auto message = [](const auto& call) { return message_of<Error>(call); };
  EXPECT_EQ(message([&] { backend_->run(ops::Attention{.in = p.in, .to = {out, out}}); }),
            "attention: lse is [64, 32], wanted [2, 64]");
  const DeviceLists columns = upload(all_columns(p, 64), 64);
  ColumnLists wrong = columns.view;
  wrong.group_size = 32;
  EXPECT_EQ(message([&] {
              backend_->run(ops::ColumnSparseAttention{.in = p.in, .columns = wrong, .to = {out}});
            }),
            "column_sparse_attention: offsets is [3], wanted [5]");
  EXPECT_EQ(message([&] {
              backend_->run(ops::ColumnSparseAttention{
                  .in = p.in, .columns = columns.view, .delta = {out, {}, true}, .to = {out}});
            }),
            "column_sparse_attention: a merged delta has no weight");
}

}  // namespace
}  // namespace mochi
