// Helpers of the tests of sparse attention: problems, and literal loops in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "backend/ops_fixture.h"

namespace mochi {

using Lists = std::vector<std::vector<std::int32_t>>;  // one per (head, group)

class SparseOpsFixture : public OpsFixture {
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
          const float* value = p.v.view().f32().data() + (head * p.num_keys() + key) * p.head_dim();
          for (std::int64_t d = 0; d < p.head_dim(); ++d) out[d] += weight * value[d];
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

  // Returns lists of unequal lengths, from one column to most of them.
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

struct Sizes {
  std::int64_t tokens, head_dim, group_size;
};
constexpr Sizes kSizes[] = {{1, 8, 64},    {63, 20, 64},   {200, 128, 192}, {385, 64, 192},
                            {300, 40, 64}, {257, 32, 128}, {384, 16, 192}};

constexpr Sizes kSizesOfLists[] = {{1, 8, 64},      {63, 20, 64},    {200, 128, 192},
                                   {385, 64, 192},  {300, 40, 64},   {257, 32, 128},
                                   {384, 16, 192},  {1, 128, 192},   {130, 128, 64},
                                   {290, 128, 128}, {577, 128, 192}, {300, 128, 256}};

struct DeltaForm {
  bool has_weight = false, is_merged = false;
  float follow = 0;

  AttentionDelta with(const TensorView& cache, const TensorView& weight) const {
    return {cache, has_weight ? weight : TensorView{}, is_merged, follow};
  }
};
constexpr DeltaForm kDeltaForms[] = {{}, {true}, {true, true}, {true, true, 0.5F}};

}  // namespace mochi
