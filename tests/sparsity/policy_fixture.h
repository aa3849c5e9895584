// A series of steps whose queries, keys and values drift, as a policy sees them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>

#include "sparsity/column_sparse_policy.h"
#include "support/backend_case.h"
#include "support/relative_error.h"

namespace mochi {

inline constexpr TokenGrid kGrid{5, 13, 9};  // whole voxels and tails in every direction
inline constexpr std::int64_t kHeads = 2;
inline constexpr std::int64_t kHeadDim = 32;
inline constexpr Site kSite{Branch::kCond, 3};

struct Problem {
  Tensor q, k, v;
  AttentionInputs in;
  Shape out_shape() const { return {in.q.dim(1), kHeads * kHeadDim}; }
};

class PolicyBase : public OnBackend {
 protected:
  static Tensor random(const Shape& shape, std::mt19937& generator) {
    Tensor tensor(DType::kF32, shape);
    std::normal_distribution<float> normal;
    for (float& value : tensor.view().f32()) value = normal(generator);
    return tensor;
  }

  // Step `step` of a generation: a fixed part, and one that changes.
  static Problem problem_at(int step, std::int64_t num_text = 6) {
    const Shape shape{kHeads, kGrid.num_tokens() + num_text, kHeadDim};
    std::mt19937 fixed(1);
    std::mt19937 changing(static_cast<std::uint32_t>(100 + step));
    const auto drifting = [&] {
      Tensor base = random(shape, fixed);
      const Tensor change = random(shape, changing);
      for (std::size_t i = 0; i < base.view().f32().size(); ++i) {
        base.view().f32()[i] += 0.1F * change.view().f32()[i];
      }
      return base;
    };
    Problem problem{drifting(), drifting(), drifting(), {}};
    problem.in.q = problem.q;
    problem.in.k = problem.k;
    problem.in.v = problem.v;
    problem.in.scale = 0.3F;
    return problem;
  }

  // Allocates a policy's state at its first call.
  Tensor attend(ColumnSparsePolicy& policy, const Problem& problem, int step, Site site = kSite) {
    if (!policy.is_allocated()) allocate(policy, problem, site.branch);
    return attend(static_cast<BlockPolicy&>(policy), problem, step, site);
  }
  // For a problem of one branch; the other one's has no text.
  void allocate(ColumnSparsePolicy& policy, const Problem& problem, Branch branch = Branch::kCond) {
    StateSizes sizes{.num_layers = 5,
                     .num_heads = kHeads,
                     .head_dim = kHeadDim,
                     .num_tokens = {kGrid.num_tokens(), kGrid.num_tokens()}};
    sizes.num_tokens[static_cast<std::size_t>(branch)] = problem.in.num_queries();
    policy.allocate(*backend_, sizes, 0, {});
  }
  Tensor attend(BlockPolicy& policy, const Problem& problem, int step, Site site = kSite) {
    Tensor out(DType::kF32, problem.out_shape());
    std::ranges::fill(out.view().f32(), std::nanf(""));
    policy.begin_forward(ctx(), site.branch, step);
    policy.attend(ctx(), site, step, problem.in, out);
    return out;
  }
  Tensor dense(const Problem& problem) {
    DensePolicy policy;
    return attend(policy, problem, 0);
  }
  static double error(const Tensor& got, const Tensor& want) {
    return relative_error(got.view().f32(), want.view().f32());
  }

  static SparsityConfig make_config(DeltaKind delta = DeltaKind::kSubtract) {
    SparsityConfig config;
    config.attn.top_keys = 0.2;
    config.attn.local_voxels = 1;
    config.attn.counts_multiple_of = 16;
    config.attn.delta = delta;
    config.attn.full_step_schedule = {0, 1, 5};
    return config;
  }

  Context& ctx() {
    if (!ctx_) ctx_ = std::make_unique<Context>(Context{*backend_, scratch_});
    return *ctx_;
  }

  Arena scratch_;
  std::unique_ptr<Context> ctx_;
};

}  // namespace mochi
