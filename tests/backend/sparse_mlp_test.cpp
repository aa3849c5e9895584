// Feed-forward layers that recompute some columns, compared with literal loops in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "backend/ops_fixture.h"
#include "base/error.h"
#include "base/parallel_for.h"

namespace mochi {
namespace {

using BlockLists = std::vector<std::vector<std::int32_t>>;  // one per block

struct MlpSizes {
  std::int64_t tokens, width, hidden, block_size;
};
// Covers ragged blocks and widths, several pieces of a block, and one token.
constexpr MlpSizes kMlpSizes[] = {{1, 8, 5, 128},    {128, 32, 48, 128}, {300, 24, 70, 128},
                                  {130, 100, 33, 7}, {450, 16, 40, 400}, {257, 64, 96, 64}};

class SparseMlpOpsBase : public OpsFixture {
 protected:
  struct Problem {
    MlpSizes sizes;
    Tensor w1, w2, w2_rows;
    std::int64_t num_blocks() const {
      return (sizes.tokens + sizes.block_size - 1) / sizes.block_size;
    }
  };
  struct Cache {
    Tensor activations, out, means;
    std::int64_t block_size;
    struct View {
      TensorView activations, out, means;
      std::int64_t block_size;
    };
    View view() const { return {activations, out, means, block_size}; }
  };

  Tensor matrix(const Shape& shape, DType dtype) {
    Tensor weight = random(shape);
    for (float& value : weight.view().f32()) value /= std::sqrt(static_cast<float>(shape[1]));
    round(weight);
    if (dtype == DType::kF32) return weight;
    Tensor rounded(dtype, shape);
    auto* bits = reinterpret_cast<BFloat16*>(rounded.view().bytes());
    for (const float value : weight.view().f32()) {
      *bits++ = {static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16)};
    }
    return rounded;
  }
  Problem make_problem(const MlpSizes& sizes, DType dtype) {
    Problem p{sizes,
              matrix({2 * sizes.hidden, sizes.width}, dtype),
              matrix({sizes.width, sizes.hidden}, dtype),
              {}};
    p.w2_rows = Tensor(dtype, {sizes.hidden, sizes.width});
    backend_->run(ops::Transpose{.x = p.w2, .out = p.w2_rows});
    return p;
  }

  static double at(const Tensor& matrix, std::int64_t row, std::int64_t column) {
    const std::int64_t i = row * matrix.view().dim(1) + column;
    if (matrix.view().dtype() == DType::kF32) return matrix.view().f32()[i];
    const std::uint32_t bits = reinterpret_cast<const BFloat16*>(matrix.view().bytes())[i].bits;
    return std::bit_cast<float>(bits << 16);
  }

  // Returns gate `row` of a token or, with row ≥ hidden, a value.
  static double dot(const Problem& p, const Tensor& x, std::int64_t token, std::int64_t row) {
    double sum = 0;
    for (std::int64_t k = 0; k < p.sizes.width; ++k) sum += at(x, token, k) * at(p.w1, row, k);
    return sum;
  }

  // Results of a whole layer for x, or of some columns written over earlier results.
  struct Literal {
    std::vector<double> activations, out, means;
  };
  static Literal run_literally(const Problem& p, const Tensor& x, const BlockLists& lists,
                               const Cache& before) {
    const auto& [tokens, width, hidden, block_size] = p.sizes;
    const auto widen = [](const Tensor& tensor) {
      return std::vector<double>(tensor.view().f32().begin(), tensor.view().f32().end());
    };
    Literal result{widen(before.activations), widen(before.out), widen(before.means)};
    for (std::int64_t block = 0; block < p.num_blocks(); ++block) {
      const std::int64_t begin = block * block_size;
      const std::int64_t end = std::min(begin + block_size, tokens);
      for (const std::int32_t j : lists[block]) {
        double gate_sum = 0;
        double value_sum = 0;
        for (std::int64_t token = begin; token < end; ++token) {
          const double gate = dot(p, x, token, j);
          const double value = dot(p, x, token, hidden + j);
          const double activation = gate / (1 + std::exp(-gate)) * value;
          double& former = result.activations[token * hidden + j];
          for (std::int64_t i = 0; i < width; ++i) {
            result.out[token * width + i] += (activation - former) * at(p.w2, i, j);
          }
          former = activation;
          gate_sum += gate;
          value_sum += value;
        }
        const auto count = static_cast<double>(end - begin);
        result.means[block * 2 * hidden + j] = gate_sum / count;
        result.means[block * 2 * hidden + hidden + j] = value_sum / count;
      }
    }
    return result;
  }

  Cache random_cache(const Problem& p) {
    return {random({p.sizes.tokens, p.sizes.hidden}), random({p.sizes.tokens, p.sizes.width}),
            random({p.num_blocks(), 2 * p.sizes.hidden}), p.sizes.block_size};
  }
  // Returns the cache that a dense layer leaves.
  Cache dense_cache(const Problem& p, const Tensor& x) {
    Cache cache{poisoned({p.sizes.tokens, p.sizes.hidden}),
                poisoned({p.sizes.tokens, p.sizes.width}),
                poisoned({p.num_blocks(), 2 * p.sizes.hidden}), p.sizes.block_size};
    const Tensor both = poisoned({p.sizes.tokens, 2 * p.sizes.hidden});
    backend_->run(ops::Linear{.x = x, .weight = p.w1, .out = both});
    backend_->run(
        ops::GatedActivation{.x = both, .activation = Activation::kSilu, .out = cache.activations});
    backend_->run(ops::Linear{.x = cache.activations, .weight = p.w2, .out = cache.out});
    backend_->run(ops::MeanRows{.x = both, .out = cache.means, .block_size = p.sizes.block_size});
    return cache;
  }

  static BlockLists all_columns(const Problem& p) {
    std::vector<std::int32_t> all(static_cast<std::size_t>(p.sizes.hidden));
    std::iota(all.begin(), all.end(), 0);
    return BlockLists(static_cast<std::size_t>(p.num_blocks()), all);
  }
  // Returns lists of unequal lengths; the second one is empty.
  BlockLists some_columns(const Problem& p) {
    BlockLists lists = all_columns(p);
    for (std::size_t i = 0; i < lists.size(); ++i) {
      std::ranges::shuffle(lists[i], generator_);
      lists[i].resize(i == 1 ? 0 : generator_() % lists[i].size() + 1);
      std::ranges::sort(lists[i]);
    }
    return lists;
  }

  void update(const Problem& p, const Tensor& x, const BlockLists& lists,
              const Cache::View& cache) {
    std::vector<std::int32_t> offsets{0};
    std::vector<std::int32_t> columns;
    columns.reserve(1);  // so that there is always memory
    for (const auto& list : lists) {
      columns.insert(columns.end(), list.begin(), list.end());
      offsets.push_back(static_cast<std::int32_t>(columns.size()));
    }
    const Tensor device_offsets = ints(offsets, {std::ssize(offsets)});
    const Tensor device_columns = ints(columns, {std::ssize(columns)});
    backend_->run(
        ops::ColumnSparseMlp{.x = x,
                             .w1 = p.w1,
                             .w2_rows = p.w2_rows,
                             .columns = {device_offsets, device_columns, cache.block_size},
                             .activations = cache.activations,
                             .out = cache.out,
                             .means = cache.means});
  }
};

using SparseMlpOps = OverBackends<SparseMlpOpsBase>;
INSTANTIATE_TEST_SUITE_P(On, SparseMlpOps, all_backends(), name_of_case);
using SparseMlpOpsOnCpu = OnCpu<SparseMlpOpsBase>;

std::vector<float> values(const Tensor& tensor) {
  return {tensor.view().f32().begin(), tensor.view().f32().end()};
}

TEST_P(SparseMlpOps, OnlyListedColumnsAreRecomputed) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const MlpSizes& sizes : kMlpSizes) {
      const Problem p = make_problem(sizes, dtype);
      const Tensor x = random({sizes.tokens, sizes.width});
      const Cache cache = random_cache(p);
      const BlockLists lists = some_columns(p);
      const Literal want = run_literally(p, x, lists, cache);
      update(p, x, lists, cache.view());
      EXPECT_LE(relative_error(cache.activations.view().f32(), want.activations), limit(1e-6));
      EXPECT_LE(relative_error(cache.out.view().f32(), want.out), limit(1e-6)) << sizes.tokens;
      EXPECT_LE(relative_error(cache.means.view().f32(), want.means), limit(1e-6)) << sizes.tokens;
    }
  }
}

TEST_P(SparseMlpOps, AllColumnsAreTheDenseLayer) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    // Dense matmuls may round their inputs to BF16; and a cache in BF16 keeps the rounding of the
    // earlier activations and output: 7.7e-3 on an H100.
    const double most = limit(dtype == DType::kF32 ? 3e-6 : 1e-2, 3.0);
    for (const MlpSizes& sizes : kMlpSizes) {
      const Problem p = make_problem(sizes, dtype);
      const Cache cache = dense_cache(p, random({sizes.tokens, sizes.width}));
      const Tensor x = random({sizes.tokens, sizes.width});
      const Cache want = dense_cache(p, x);
      update(p, x, all_columns(p), cache.view());
      EXPECT_LE(relative_error(cache.activations.view().f32(), want.activations.view().f32()),
                most);
      // The earlier output, the changes and both new outputs are rounded; most of it cancels.
      EXPECT_LE(relative_error(cache.out.view().f32(), want.out.view().f32()),
                is_cpu() ? most : 2 * most);
      EXPECT_LE(relative_error(cache.means.view().f32(), want.means.view().f32()), most);
    }
  }
}

TEST_P(SparseMlpOps, WithoutColumnsTheCacheIsUnchanged) {
  const Problem p = make_problem(kMlpSizes[2], DType::kF32);
  const Tensor x = random({p.sizes.tokens, p.sizes.width});
  const Cache cache = dense_cache(p, x);
  const std::vector<float> before = values(cache.out);
  update(p, random(x.view().shape()), BlockLists(3), cache.view());
  EXPECT_EQ(values(cache.out), before);
  // Columns whose input is unchanged do not change much either.
  update(p, x, some_columns(p), cache.view());
  EXPECT_LE(relative_error(cache.out.view().f32(), before), limit(1e-6));
}

TEST_F(SparseMlpOpsOnCpu, TheNumberOfThreadsChangesNothing) {
  const Problem p = make_problem({700, 40, 90, 128}, DType::kF32);
  const Tensor x = random({p.sizes.tokens, p.sizes.width});
  const Tensor former = random(x.view().shape());
  const BlockLists lists = some_columns(p);
  const auto run = [&](int num_threads) {
    set_num_threads(num_threads);
    const Cache cache = dense_cache(p, former);
    update(p, x, lists, cache.view());
    set_num_threads(0);
    return values(cache.out);
  };
  EXPECT_EQ(run(1), run(3));
}

TEST_P(SparseMlpOps, MovementIsOfGatesAndValues) {
  const Tensor now = random({3, 10});
  const Tensor former = random({3, 10});
  const Tensor scores = poisoned({1, 3, 5});
  backend_->run(ops::FindMovement{.means = now, .former = former, .scores = scores});
  for (std::int64_t block = 0; block < 3; ++block) {
    for (std::int64_t j = 0; j < 5; ++j) {
      const double want = std::abs(at(now, block, j) - at(former, block, j)) +
                          std::abs(at(now, block, 5 + j) - at(former, block, 5 + j));
      EXPECT_NEAR(scores.view().f32()[block * 5 + j], want, 1e-6);
    }
  }
}

TEST_P(SparseMlpOps, MeansAreOfBlocks) {
  const Tensor x = random({10, 3});
  const Tensor means = poisoned({3, 3});
  backend_->run(ops::MeanRows{.x = x, .out = means, .block_size = 4});
  std::vector<double> want;
  for (std::int64_t block = 0; block < 3; ++block) {
    const std::int64_t end = std::min<std::int64_t>(4 * block + 4, 10);
    for (std::int64_t i = 0; i < 3; ++i) {
      double sum = 0;
      for (std::int64_t row = 4 * block; row < end; ++row) sum += at(x, row, i);
      want.push_back(sum / static_cast<double>(end - 4 * block));
    }
  }
  EXPECT_LE(relative_error(means.view().f32(), want), limit(1e-6));
}

TEST_P(SparseMlpOps, TransposesMatricesOfBothTypes) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor x = matrix({5, 3}, dtype);
    const Tensor out(dtype, {3, 5});
    backend_->run(ops::Transpose{.x = x, .out = out});
    for (std::int64_t row = 0; row < 5; ++row) {
      for (std::int64_t i = 0; i < 3; ++i) EXPECT_EQ(at(out, i, row), at(x, row, i));
    }
  }
}

TEST_P(SparseMlpOps, ContractsNameTheOperation) {
  const Problem p = make_problem({20, 8, 12, 8}, DType::kF32);
  const Tensor x = random({20, 8});
  const Cache cache = random_cache(p);
  const auto message = [&](const auto& change) -> std::string {
    Cache::View wrong = cache.view();
    change(wrong);
    try {
      update(p, x, all_columns(p), wrong);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message([](Cache::View&) {}), "accepted");
  EXPECT_EQ(message([](Cache::View& c) { c.activations = c.out; }),
            "column_sparse_mlp: activations is [20, 8], wanted [20, 12]");
  EXPECT_EQ(message([](Cache::View& c) { c.block_size = 10; }),
            "column_sparse_mlp: means is [3, 24], wanted [2, 24]");
  EXPECT_EQ(message([](Cache::View& c) { c.block_size = 0; }),
            "column_sparse_mlp: groups of 0 tokens");
  EXPECT_EQ(message([](Cache::View& c) { c.means = {}; }), "column_sparse_mlp: means is missing");
}

}  // namespace
}  // namespace mochi
