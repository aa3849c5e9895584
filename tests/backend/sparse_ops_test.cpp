// Attention with lse, column sums, chosen columns and deltas against literal loops in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "backend/ops_fixture.h"
#include "base/error.h"
#include "base/parallel_for.h"

namespace mochi {
namespace {

using Lists = std::vector<std::vector<std::int32_t>>;  // of (head, group)

class SparseOpsBase : public OpsFixture {
 protected:
  struct Problem {
    Tensor q, k, v;
    AttentionInputs in;
    std::int64_t heads() const { return in.q.dim(0); }
    std::int64_t num_queries() const { return in.q.dim(1); }
    std::int64_t num_keys() const { return in.k.dim(1); }
    std::int64_t head_dim() const { return in.q.dim(2); }
    Shape out_shape() const { return {num_queries(), heads() * head_dim()}; }
    Shape lse_shape() const { return {heads(), num_queries()}; }
  };

  Problem make_problem(std::int64_t heads, std::int64_t tokens, std::int64_t head_dim) {
    return make_problem(heads, tokens, tokens, head_dim);
  }
  Problem make_problem(std::int64_t heads, std::int64_t num_queries, std::int64_t num_keys,
                       std::int64_t head_dim) {
    Problem problem{random({heads, num_queries, head_dim}),
                    random({heads, num_keys, head_dim}),
                    random({heads, num_keys, head_dim}),
                    {}};
    problem.in.q = problem.q;
    problem.in.k = problem.k;
    problem.in.v = problem.v;
    problem.in.scale = 2.0F / std::sqrt(static_cast<float>(head_dim));
    return problem;
  }

  static double logit(const Problem& p, std::int64_t head, std::int64_t query, std::int64_t key) {
    const std::int64_t head_dim = p.head_dim();
    const float* q = p.q.view().f32().data() + (head * p.num_queries() + query) * head_dim;
    const float* k = p.k.view().f32().data() + (head * p.num_keys() + key) * head_dim;
    double sum = 0;
    for (std::int64_t d = 0; d < head_dim; ++d) sum += double{q[d]} * k[d];
    return sum * p.in.scale;
  }

  struct Reference {
    std::vector<double> out, lse;
  };
  static Reference attend(const Problem& p, const Lists& lists, std::int64_t group_size) {
    Reference reference;
    reference.out.resize(static_cast<std::size_t>(p.out_shape().num_elements()));
    reference.lse.resize(static_cast<std::size_t>(p.lse_shape().num_elements()));
    const std::int64_t num_groups = (p.num_queries() + group_size - 1) / group_size;
    for (std::int64_t head = 0; head < p.heads(); ++head) {
      for (std::int64_t query = 0; query < p.num_queries(); ++query) {
        double total = 0;
        double* out = reference.out.data() + query * p.heads() * p.head_dim() + head * p.head_dim();
        for (const std::int32_t key :
             lists[static_cast<std::size_t>(head * num_groups + query / group_size)]) {
          const double weight = std::exp(logit(p, head, query, key));
          total += weight;
          for (std::int64_t d = 0; d < p.head_dim(); ++d) {
            out[d] += weight * p.v.view().f32()[(head * p.num_keys() + key) * p.head_dim() + d];
          }
        }
        for (std::int64_t d = 0; d < p.head_dim(); ++d) out[d] /= total;
        reference.lse[static_cast<std::size_t>(head * p.num_queries() + query)] = std::log(total);
      }
    }
    return reference;
  }

  static Lists all_columns(const Problem& p, std::int64_t group_size) {
    std::vector<std::int32_t> all(static_cast<std::size_t>(p.num_keys()));
    std::iota(all.begin(), all.end(), 0);
    return Lists(
        static_cast<std::size_t>(p.heads() * ((p.num_queries() + group_size - 1) / group_size)),
        all);
  }

  // Lists of unequal lengths, from one column to most of them.
  Lists some_columns(const Problem& p, std::int64_t group_size) {
    Lists lists = all_columns(p, group_size);
    for (std::size_t i = 0; i < lists.size(); ++i) {
      std::ranges::shuffle(lists[i], generator_);
      lists[i].resize(i == 0 ? 1 : generator_() % (lists[i].size() - 1) + 1);
      std::ranges::sort(lists[i]);
    }
    return lists;
  }

  struct DeviceLists {
    Tensor offsets, columns;
    ColumnLists view;
  };
  static DeviceLists upload(const Lists& lists, std::int64_t group_size) {
    std::vector<std::int32_t> offsets{0};
    std::vector<std::int32_t> columns;
    for (const auto& list : lists) {
      columns.insert(columns.end(), list.begin(), list.end());
      offsets.push_back(static_cast<std::int32_t>(columns.size()));
    }
    DeviceLists result{
        ints(offsets, {std::ssize(offsets)}), ints(columns, {std::ssize(columns)}), {}};
    result.view = {result.offsets, result.columns, group_size};
    return result;
  }

  static double error(const TensorView& got, const std::vector<double>& want) {
    return relative_error(got.f32(), want);
  }
  static double error(const TensorView& got, const TensorView& want) {
    return relative_error(got.f32(), want.f32());
  }
};

using SparseOps = OverBackends<SparseOpsBase>;
INSTANTIATE_TEST_SUITE_P(On, SparseOps, all_backends(), name_of_case);
using SparseOpsOnCpu = OnCpu<SparseOpsBase>;

struct Sizes {
  std::int64_t tokens, head_dim, group_size;
};
constexpr Sizes kSizes[] = {{1, 8, 64},    {63, 20, 64},   {200, 128, 192}, {385, 64, 192},
                            {300, 40, 64}, {257, 32, 128}, {384, 16, 192}};
constexpr Sizes kSizesOfLists[] = {{1, 8, 64},      {63, 20, 64},    {200, 128, 192},
                                   {385, 64, 192},  {300, 40, 64},   {257, 32, 128},
                                   {384, 16, 192},  {1, 128, 192},   {130, 128, 64},
                                   {290, 128, 128}, {577, 128, 192}, {300, 128, 256}};

TEST_P(SparseOps, DenseAttentionGivesItsLse) {
  for (const Sizes& sizes : kSizes) {
    const Problem p = make_problem(2, sizes.tokens, sizes.head_dim);
    const Tensor out = poisoned(p.out_shape());
    const Tensor lse = poisoned(p.lse_shape());
    backend_->attention(p.in, {out, lse});
    const Reference want = attend(p, all_columns(p, 64), 64);
    EXPECT_LE(error(out, want.out), limit(1e-6)) << sizes.tokens;
    EXPECT_LE(error(lse, want.lse), limit(1e-6)) << sizes.tokens;
  }
}

TEST_P(SparseOps, ColumnSumsAreThoseOfTheDenseProbabilities) {
  for (const Sizes& sizes : kSizes) {
    for (const std::int64_t stride : {1, 4, 16, 64}) {
      const Problem p = make_problem(2, sizes.tokens, sizes.head_dim);
      const std::int64_t num_groups = (sizes.tokens + sizes.group_size - 1) / sizes.group_size;
      const Tensor former = random(p.lse_shape());
      const Tensor sums = poisoned({2, num_groups, sizes.tokens});
      const Tensor out = poisoned(p.out_shape());
      const Tensor lse = poisoned(p.lse_shape());
      backend_->attention_with_column_sums(p.in, {former, sums, sizes.group_size, stride},
                                           {out, lse});
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
      const Reference dense = attend(p, all_columns(p, 64), 64);
      EXPECT_LE(error(out, dense.out), limit(1e-6));
      EXPECT_LE(error(lse, dense.lse), limit(1e-6));
    }
  }
}

// Sums of a form, with a former log-sum-exp that is off by `shift` or, in turns, by as much less.
struct SumsCase {
  std::int64_t heads, num_queries, num_keys, group_size, stride;
  float shift;
  bool takes_turns;
};
constexpr SumsCase kSumsCases[] = {
    {2, 1, 1, 192, 1, 0.0F, false},         // one of everything
    {2, 193, 127, 192, 1, 1.0F, true},      // a group of one query; not a whole key tile
    {1, 400, 129, 192, 4, 1.0F, true},      // a key tile of one key; a group of 16
    {2, 577, 300, 64, 1, 1.0F, true},       // smaller groups, of which blocks begin with the last
    {2, 577, 300, 64, 4, -20.0F, false},    //
    {1, 320, 257, 128, 1, 1.0F, true},      // groups that are not blocks
    {1, 400, 200, 192, 2, 20.0F, true},     //
    {1, 400, 200, 192, 3, -20.0F, false},   // a group's last query does not count
    {1, 400, 200, 192, 8, 20.0F, false},    //
    {1, 400, 200, 192, 500, -20.0F, true},  // only the first counts
    {2, 400, 200, 192, 1, 70.0F, false},    // weights that would vanish
    {2, 400, 200, 192, 4, -70.0F, true},    // weights beyond fp32's range beside others
    {150, 3, 5, 192, 1, 1.0F, true},        // more heads than a GPU has blocks
    {150, 65, 3, 64, 4, -60.0F, false},     //
};

TEST_P(SparseOps, ColumnSumsAreRelativeToTheFormerLse) {
  for (const SumsCase& c : kSumsCases) {
    const Problem p = make_problem(c.heads, c.num_queries, c.num_keys, 128);
    const Reference dense = attend(p, all_columns(p, c.group_size), c.group_size);
    const std::int64_t num_groups = (c.num_queries + c.group_size - 1) / c.group_size;
    const Tensor former(DType::kF32, p.lse_shape());
    for (std::size_t row = 0; row < dense.lse.size(); ++row) {
      const bool is_less = c.takes_turns && row % 2 == 1;
      former.view().f32()[row] =
          static_cast<float>(dense.lse[row]) + (is_less ? -c.shift : c.shift);
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
      backend_->attention_with_column_sums(p.in, {former, sums, c.group_size, c.stride},
                                           {out, lse});
      EXPECT_LE(error(sums, want), 2e-5) << c.num_queries << " " << c.stride << " " << c.shift;
      EXPECT_LE(error(out, dense.out), limit(1e-6)) << c.num_queries << " " << c.shift;
      EXPECT_LE(error(lse, dense.lse), limit(1e-6)) << c.num_queries << " " << c.shift;
      runs.emplace_back(sums.view().f32().begin(), sums.view().f32().end());
    }
    EXPECT_EQ(runs[0], runs[1]);
  }
}

TEST_P(SparseOps, ChosenColumnsAreAllThatIsSeen) {
  for (const Sizes& sizes : kSizesOfLists) {
    const Problem p = make_problem(2, sizes.tokens, sizes.head_dim);
    if (sizes.tokens < 2) continue;
    const Lists lists = some_columns(p, sizes.group_size);
    const DeviceLists columns = upload(lists, sizes.group_size);
    const Tensor out = poisoned(p.out_shape());
    const Tensor lse = poisoned(p.lse_shape());
    backend_->column_sparse_attention(p.in, columns.view, {}, {out, lse});
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
    backend_->attention(p.in, {dense});
    backend_->column_sparse_attention(p.in, columns.view, {}, {out});
    EXPECT_LE(error(out, dense.view()), limit(1e-6)) << sizes.tokens;
  }
}

TEST_F(SparseOpsOnCpu, TheNumberOfThreadsChangesNothing) {
  const Problem p = make_problem(3, 385, 64);
  const DeviceLists columns = upload(some_columns(p, 192), 192);
  const auto run = [&](int num_threads) {
    set_num_threads(num_threads);
    const Tensor out = poisoned(p.out_shape());
    backend_->column_sparse_attention(p.in, columns.view, {}, {out});
    set_num_threads(0);
    return std::vector<float>(out.view().f32().begin(), out.view().f32().end());
  };
  EXPECT_EQ(run(1), run(3));
}

struct DeltaForm {
  bool has_weight = false, is_merged = false;
  float follow = 0;

  AttentionDelta with(const TensorView& cache, const TensorView& weight) const {
    return {cache, has_weight ? weight : TensorView{}, is_merged, follow};
  }
};
constexpr DeltaForm kDeltaForms[] = {{}, {true}, {true, true}, {true, true, 0.5F}};

// Just after a full step the delta makes the sparse result the dense one, in every form.
TEST_P(SparseOps, DeltasRestoreTheDenseOutput) {
  for (const Sizes& sizes : kSizesOfLists) {
    const Problem p = make_problem(2, sizes.tokens, sizes.head_dim);
    Lists lists =
        sizes.tokens < 2 ? all_columns(p, sizes.group_size) : some_columns(p, sizes.group_size);
    lists.back() = all_columns(p, sizes.group_size).back();  // nothing is left out there
    const DeviceLists columns = upload(lists, sizes.group_size);
    const Tensor dense = poisoned(p.out_shape());
    const Tensor dense_lse = poisoned(p.lse_shape());
    const Tensor sparse = poisoned(p.out_shape());
    const Tensor sparse_lse = poisoned(p.lse_shape());
    backend_->attention(p.in, {dense, dense_lse});
    backend_->column_sparse_attention(p.in, columns.view, {}, {sparse, sparse_lse});
    for (const DeltaForm& form : kDeltaForms) {
      const Tensor cache = poisoned(p.out_shape());
      const Tensor weight = poisoned(p.lse_shape());
      const AttentionDelta delta = form.with(cache, weight);
      backend_->find_delta({dense, dense_lse}, {sparse, sparse_lse}, delta);
      const Tensor out = poisoned(p.out_shape());
      backend_->column_sparse_attention(p.in, columns.view, delta, {out});
      // The cache is rounded as an activation, and may be larger than what comes out: 5.0e-3.
      EXPECT_LE(error(out, dense.view()), limit(2e-6, 2.0))
          << sizes.tokens << form.has_weight << form.is_merged << form.follow;
    }
  }
}

// The formulas themselves, with other queries, keys and values than the delta was made from.
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
      backend_->column_sparse_attention(p.in, columns.view, form.with(cache, weight), {out, lse});
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

// Lists that end in, at and just after a tile of keys, and one much longer than the others.
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
  backend_->column_sparse_attention(p.in, columns.view, {}, {out, lse});
  const Reference want = attend(p, lists, 192);
  EXPECT_LE(error(out, want.out), limit(1e-6));
  EXPECT_LE(error(lse, want.lse), limit(1e-6));
}

// More groups than a GPU has multiprocessors, several times over: blocks take one after another,
// and which takes which changes no bit. Of groups of 256 the last has less than half its queries.
TEST_P(SparseOps, ManyGroupsAreAllComputedTheSameEveryTime) {
  struct Many {
    std::int64_t heads, tokens, group_size;
  };
  for (const auto& [heads, tokens, group_size] : {Many{16, 1700, 64}, Many{150, 300, 256}}) {
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
    backend_->column_sparse_attention(p.in, columns.view, delta, {out});
    std::vector<double> want = attend(p, lists, group_size).out;
    for (std::size_t i = 0; i < want.size(); ++i) {
      const auto width = static_cast<std::size_t>(heads * 128);
      const std::size_t row = i % width / 128 * static_cast<std::size_t>(tokens) + i / width;
      want[i] = cache.view().f32()[i] + weight.view().f32()[row] * want[i];
    }
    EXPECT_LE(error(out, want), limit(2e-6)) << tokens;
    for (int i = 0; i < 3; ++i) {
      const Tensor again = poisoned(p.out_shape());
      backend_->column_sparse_attention(p.in, columns.view, delta, {again});
      EXPECT_TRUE(std::ranges::equal(again.view().f32(), out.view().f32())) << tokens;
    }
  }
}

TEST_P(SparseOps, GatherRowsTakesRows) {
  const Tensor x = random({5, 3});
  const Tensor out = poisoned({4, 3});
  backend_->gather_rows(x, ints({4, 0, 0, 2}, {4}), out);
  for (const auto& [row, from] : {std::pair{0, 4}, {1, 0}, {2, 0}, {3, 2}}) {
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(out.view().f32()[row * 3 + i], x.view().f32()[from * 3 + i]);
    }
  }
}

TEST_P(SparseOps, ContractsNameTheOperation) {
  const Problem p = make_problem(2, 64, 16);
  const Tensor out = poisoned(p.out_shape());
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message([&] { backend_->attention(p.in, {out, out}); }),
            "attention: lse is [64, 32], wanted [2, 64]");
  const DeviceLists columns = upload(all_columns(p, 64), 64);
  ColumnLists wrong = columns.view;
  wrong.group_size = 32;
  EXPECT_EQ(message([&] { backend_->column_sparse_attention(p.in, wrong, {}, {out}); }),
            "column_sparse_attention: offsets is [3], wanted [5]");
  EXPECT_EQ(message([&] {
              backend_->column_sparse_attention(p.in, columns.view, {out, {}, true}, {out});
            }),
            "column_sparse_attention: a merged delta has no weight");
}

}  // namespace
}  // namespace mochi
