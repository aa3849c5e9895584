// Attention with lse, column sums, chosen columns and deltas against literal loops in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "backend/backend.h"
#include "base/error.h"
#include "base/parallel_for.h"

namespace mochi {
namespace {

using Lists = std::vector<std::vector<std::int32_t>>;  // of (head, group)

class SparseOps : public testing::Test {
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

  Tensor random(const Shape& shape) {
    Tensor tensor(DType::kF32, shape);
    std::normal_distribution<float> normal;
    for (float& value : tensor.view().f32()) value = normal(generator_);
    return tensor;
  }
  static Tensor poisoned(const Shape& shape) {
    Tensor tensor(DType::kF32, shape);
    std::ranges::fill(tensor.view().f32(), std::nanf(""));
    return tensor;
  }
  static Tensor ints(const std::vector<std::int32_t>& values, const Shape& shape) {
    Tensor tensor(DType::kI32, shape);
    std::memcpy(tensor.view().bytes(), values.data(), values.size() * sizeof(std::int32_t));
    return tensor;
  }
  static const std::int32_t* data(const Tensor& tensor) {
    return reinterpret_cast<const std::int32_t*>(tensor.view().bytes());
  }

  Problem make_problem(std::int64_t heads, std::int64_t tokens, std::int64_t head_dim) {
    Problem problem{random({heads, tokens, head_dim}),
                    random({heads, tokens, head_dim}),
                    random({heads, tokens, head_dim}),
                    {}};
    problem.in.q = problem.q;
    problem.in.k = problem.k;
    problem.in.v = problem.v;
    problem.in.scale = 2.0F / std::sqrt(static_cast<float>(head_dim));
    return problem;
  }

  static double logit(const Problem& p, std::int64_t head, std::int64_t query, std::int64_t key) {
    double sum = 0;
    for (std::int64_t d = 0; d < p.head_dim(); ++d) {
      sum += double{p.q.view().f32()[(head * p.num_queries() + query) * p.head_dim() + d]} *
             p.k.view().f32()[(head * p.num_keys() + key) * p.head_dim() + d];
    }
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
    double difference = 0;
    double norm = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      difference += std::pow(got.f32()[i] - want[i], 2);
      norm += want[i] * want[i];
    }
    return std::sqrt(difference / norm);
  }
  static double error(const TensorView& got, const TensorView& want) {
    return error(got, std::vector<double>(want.f32().begin(), want.f32().end()));
  }

  std::mt19937 generator_{11};
  std::unique_ptr<Backend> backend_ = make_backend(Device::kCpu);
};

struct Sizes {
  std::int64_t tokens, head_dim, group_size;
};
constexpr Sizes kSizes[] = {{1, 8, 64},    {63, 20, 64},   {200, 128, 192}, {385, 64, 192},
                            {300, 40, 64}, {257, 32, 128}, {384, 16, 192}};

TEST_F(SparseOps, DenseAttentionGivesItsLse) {
  for (const Sizes& sizes : kSizes) {
    const Problem p = make_problem(2, sizes.tokens, sizes.head_dim);
    const Tensor out = poisoned(p.out_shape());
    const Tensor lse = poisoned(p.lse_shape());
    backend_->attention(p.in, {out, lse});
    const Reference want = attend(p, all_columns(p, 64), 64);
    EXPECT_LE(error(out, want.out), 1e-6) << sizes.tokens;
    EXPECT_LE(error(lse, want.lse), 1e-6) << sizes.tokens;
  }
}

TEST_F(SparseOps, ColumnSumsAreThoseOfTheDenseProbabilities) {
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
      EXPECT_LE(error(sums, want), 2e-6) << sizes.tokens << " " << stride;
      const Reference dense = attend(p, all_columns(p, 64), 64);
      EXPECT_LE(error(out, dense.out), 1e-6);
      EXPECT_LE(error(lse, dense.lse), 1e-6);
    }
  }
}

TEST_F(SparseOps, ChosenColumnsAreAllThatIsSeen) {
  for (const Sizes& sizes : kSizes) {
    const Problem p = make_problem(2, sizes.tokens, sizes.head_dim);
    if (sizes.tokens < 2) continue;
    const Lists lists = some_columns(p, sizes.group_size);
    const DeviceLists columns = upload(lists, sizes.group_size);
    const Tensor out = poisoned(p.out_shape());
    const Tensor lse = poisoned(p.lse_shape());
    backend_->column_sparse_attention(p.in, columns.view, {}, {out, lse});
    const Reference want = attend(p, lists, sizes.group_size);
    EXPECT_LE(error(out, want.out), 1e-6) << sizes.tokens;
    EXPECT_LE(error(lse, want.lse), 1e-6) << sizes.tokens;
  }
}

TEST_F(SparseOps, AllColumnsAreDenseAttention) {
  for (const Sizes& sizes : kSizes) {
    const Problem p = make_problem(2, sizes.tokens, sizes.head_dim);
    const DeviceLists columns = upload(all_columns(p, sizes.group_size), sizes.group_size);
    const Tensor dense = poisoned(p.out_shape());
    const Tensor out = poisoned(p.out_shape());
    backend_->attention(p.in, {dense});
    backend_->column_sparse_attention(p.in, columns.view, {}, {out});
    EXPECT_LE(error(out, dense.view()), 1e-6) << sizes.tokens;
  }
}

TEST_F(SparseOps, TheNumberOfThreadsChangesNothing) {
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

// Just after a full step the delta makes the sparse result the dense one, in every form.
TEST_F(SparseOps, DeltasRestoreTheDenseOutput) {
  for (const Sizes& sizes : kSizes) {
    for (const bool has_weight : {false, true}) {
      for (const bool is_merged : {false, true}) {
        if (is_merged && !has_weight) continue;
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
        const Tensor cache = poisoned(p.out_shape());
        const Tensor weight = poisoned(p.lse_shape());
        const AttentionDelta delta{cache, has_weight ? weight.view() : TensorView{}, is_merged};
        backend_->find_delta({dense, dense_lse}, {sparse, sparse_lse}, delta);
        const Tensor out = poisoned(p.out_shape());
        backend_->column_sparse_attention(p.in, columns.view, delta, {out});
        EXPECT_LE(error(out, dense.view()), 2e-6) << sizes.tokens << has_weight << is_merged;
      }
    }
  }
}

// The formulas themselves, with other queries, keys and values than the delta was made from.
TEST_F(SparseOps, DeltasAreAppliedAsDescribed) {
  const Problem p = make_problem(2, 200, 64);
  const Lists lists = some_columns(p, 64);
  const DeviceLists columns = upload(lists, 64);
  const Reference chosen = attend(p, lists, 64);
  const Tensor cache = random(p.out_shape());
  const Tensor weight = random(p.lse_shape());
  for (const bool has_weight : {false, true}) {
    for (const bool is_merged : {false, true}) {
      if (is_merged && !has_weight) continue;
      const Tensor out = poisoned(p.out_shape());
      backend_->column_sparse_attention(
          p.in, columns.view, {cache, has_weight ? weight.view() : TensorView{}, is_merged}, {out});
      std::vector<double> want(chosen.out.size());
      for (std::size_t i = 0; i < want.size(); ++i) {
        const std::size_t query = i / 128;
        const std::size_t row = i % 128 / 64 * 200 + query;
        const double w = has_weight ? weight.view().f32()[row] : 1.0;
        const double c = cache.view().f32()[i];
        if (is_merged) {
          const double a = std::exp(chosen.lse[row]);
          want[i] = (a * chosen.out[i] + std::exp(w) * c) / (a + std::exp(w));
        } else {
          want[i] = c + w * chosen.out[i];
        }
      }
      EXPECT_LE(error(out, want), 2e-6) << has_weight << is_merged;
    }
  }
}

struct Plan {
  std::vector<std::vector<std::int32_t>> lists;
  std::vector<std::int32_t> counts;
};

class Selection : public SparseOps {
 protected:
  Plan select(ColumnChoice choice, std::int64_t heads, std::int64_t groups) {
    const std::int64_t words = (choice.num_keys + 31) / 32;
    const Tensor bits =
        ints(std::vector<std::int32_t>(static_cast<std::size_t>(heads * groups * words), -1),
             {heads, groups, words});
    const Tensor counts = ints(
        std::vector<std::int32_t>(static_cast<std::size_t>(heads * groups), -1), {heads, groups});
    backend_->select_columns(choice, bits, counts);
    Plan plan;
    plan.counts.assign(data(counts), data(counts) + heads * groups);
    std::vector<std::int32_t> offsets{0};
    for (const std::int32_t count : plan.counts) offsets.push_back(offsets.back() + count);
    const Tensor columns = ints(
        std::vector<std::int32_t>(static_cast<std::size_t>(offsets.back()), -1), {offsets.back()});
    const Tensor device_offsets = ints(offsets, {std::ssize(offsets)});
    backend_->expand_columns(bits, {device_offsets, columns, 1});
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
      plan.lists.emplace_back(data(columns) + offsets[i], data(columns) + offsets[i + 1]);
    }
    return plan;
  }

  Tensor random_scores(const Shape& shape) {
    Tensor scores = random(shape);
    for (float& score : scores.view().f32()) score = std::exp(3 * score);
    return scores;
  }
  Tensor random_bits(std::int64_t groups, std::int64_t num_keys, double part) {
    const std::int64_t words = (num_keys + 31) / 32;
    std::vector<std::int32_t> bits(static_cast<std::size_t>(groups * words));
    std::bernoulli_distribution is_set(part);
    for (std::int64_t group = 0; group < groups; ++group) {
      for (std::int64_t key = 0; key < num_keys; ++key) {
        if (is_set(generator_)) {
          bits[static_cast<std::size_t>(group * words + key / 32)] |=
              std::bit_cast<std::int32_t>(std::uint32_t{1} << (key % 32));
        }
      }
    }
    return ints(bits, {groups, words});
  }
  static bool has_bit(const Tensor& bits, std::int64_t group, std::int64_t key) {
    return (static_cast<std::uint32_t>(data(bits)[group * bits.view().dim(1) + key / 32]) >>
                (key % 32) &
            1U) != 0;
  }
};

TEST_F(Selection, PlansAreSortedUniqueInRangeAndPadded) {
  for (const std::int64_t num_keys : {1, 31, 32, 33, 127, 128, 129, 300, 1000}) {
    for (const std::int64_t multiple : {1, 16, 128}) {
      for (const double random : {0.0, 0.05}) {
        const Tensor scores = random_scores({2, 3, num_keys});
        const Tensor fixed = random_bits(3, num_keys, 0.1);
        const std::int64_t kept = num_keys / 5;
        const Plan plan = select({.scores = scores,
                                  .fixed = fixed,
                                  .num_keys = num_keys,
                                  .min_kept = kept,
                                  .max_kept = kept,
                                  .random = random,
                                  .multiple = multiple},
                                 2, 3);
        for (std::size_t i = 0; i < plan.lists.size(); ++i) {
          const auto& list = plan.lists[i];
          ASSERT_EQ(std::ssize(list), plan.counts[i]);
          EXPECT_GE(list.front(), 0);
          EXPECT_LT(list.back(), num_keys);
          EXPECT_TRUE(std::ranges::is_sorted(list, std::less_equal<>{}) || list.size() < 2);
          EXPECT_EQ(std::ranges::adjacent_find(list), list.end());
          EXPECT_TRUE(list.size() % static_cast<std::size_t>(multiple) == 0 ||
                      std::ssize(list) == num_keys);
        }
      }
    }
  }
}

TEST_F(Selection, KeepsTheFixedTheBestAndNoMoreThanThePaddingNeeds) {
  const std::int64_t num_keys = 500;
  const Tensor scores = random_scores({2, 3, num_keys});
  const Tensor fixed = random_bits(3, num_keys, 0.1);
  const Plan plan = select({.scores = scores,
                            .fixed = fixed,
                            .num_keys = num_keys,
                            .min_kept = 64,
                            .max_kept = 64,
                            .multiple = 32},
                           2, 3);
  for (std::int64_t list = 0; list < 6; ++list) {
    // The literal way: sort, take 64, add the fixed ones, then the next best up to a multiple.
    const float* score = scores.view().f32().data() + list * num_keys;
    std::vector<std::int32_t> ranking(num_keys);
    std::iota(ranking.begin(), ranking.end(), 0);
    std::ranges::stable_sort(ranking, [&](auto a, auto b) { return score[a] > score[b]; });
    std::vector<std::int32_t> wanted(ranking.begin(), ranking.begin() + 64);
    for (std::int32_t key = 0; key < num_keys; ++key) {
      if (has_bit(fixed, list % 3, key) && std::ranges::find(wanted, key) == wanted.end()) {
        wanted.push_back(key);
      }
    }
    for (std::size_t i = 64; wanted.size() % 32 != 0; ++i) {
      if (std::ranges::find(wanted, ranking[i]) == wanted.end()) wanted.push_back(ranking[i]);
    }
    std::ranges::sort(wanted);
    EXPECT_EQ(plan.lists[static_cast<std::size_t>(list)], wanted);
  }
}

TEST_F(Selection, MassKeepsTheFewestColumnsThatHoldIt) {
  const std::int64_t num_keys = 300;
  const Tensor scores = random_scores({1, 4, num_keys});
  const Tensor fixed = random_bits(4, num_keys, 0.0);
  const auto counts_for = [&](double mass, std::int64_t min_kept, std::int64_t max_kept) {
    return select({.scores = scores,
                   .fixed = fixed,
                   .num_keys = num_keys,
                   .min_kept = min_kept,
                   .max_kept = max_kept,
                   .mass = mass},
                  1, 4);
  };
  const Plan plan = counts_for(0.8, 1, num_keys);
  for (std::int64_t group = 0; group < 4; ++group) {
    const float* score = scores.view().f32().data() + group * num_keys;
    std::vector<float> sorted(score, score + num_keys);
    std::ranges::sort(sorted, std::greater<>{});
    const double total = std::accumulate(sorted.begin(), sorted.end(), 0.0);
    const auto count = static_cast<std::size_t>(plan.counts[static_cast<std::size_t>(group)]);
    EXPECT_GE(std::accumulate(sorted.begin(), sorted.begin() + count, 0.0), 0.8 * total);
    EXPECT_LT(std::accumulate(sorted.begin(), sorted.begin() + count - 1, 0.0), 0.8 * total);
  }
  for (const std::int32_t count : counts_for(0.999, 5, 20).counts) EXPECT_EQ(count, 20);
  for (const std::int32_t count : counts_for(1e-9, 5, 20).counts) EXPECT_EQ(count, 5);
}

TEST_F(Selection, RandomColumnsFollowSeedAndProbability) {
  const std::int64_t num_keys = 20'000;
  const Tensor fixed = random_bits(2, num_keys, 0.0);
  const auto draw = [&](std::uint64_t seed) {
    return select({.fixed = fixed, .num_keys = num_keys, .random = 0.1, .seed = seed}, 2, 2);
  };
  const Plan plan = draw(5);
  for (const std::int32_t count : plan.counts) EXPECT_NEAR(count, 2000, 200);
  EXPECT_NE(plan.lists[0], plan.lists[1]);
  EXPECT_NE(plan.lists[0], plan.lists[2]);
  EXPECT_EQ(plan.lists, draw(5).lists);
  EXPECT_NE(plan.lists, draw(6).lists);
}

// Infinite and undefined scores (of a broken model) must not break anything else.
TEST_F(Selection, AnyScoreIsSafe) {
  const Tensor scores = random_scores({1, 1, 200});
  for (std::size_t i = 0; i < 200; i += 3) {
    scores.view().f32()[i] = i % 2 == 0 ? std::nanf("") : INFINITY;
  }
  const Tensor fixed = random_bits(1, 200, 0.0);
  const Plan plan = select({.scores = scores,
                            .fixed = fixed,
                            .num_keys = 200,
                            .min_kept = 10,
                            .max_kept = 60,
                            .mass = 0.5,
                            .multiple = 16},
                           1, 1);
  EXPECT_GE(plan.counts[0], 10);
  EXPECT_LE(plan.counts[0], 64);
}

TEST_F(SparseOps, GatherRowsTakesRows) {
  const Tensor x = random({5, 3});
  const Tensor out = poisoned({4, 3});
  backend_->gather_rows(x, ints({4, 0, 0, 2}, {4}), out);
  for (const auto& [row, from] : {std::pair{0, 4}, {1, 0}, {2, 0}, {3, 2}}) {
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(out.view().f32()[row * 3 + i], x.view().f32()[from * 3 + i]);
    }
  }
}

TEST_F(SparseOps, ContractsNameTheOperation) {
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
