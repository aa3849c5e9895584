#include "sparsity/column_sparse_policy.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace mochi {

ColumnSparsePolicy::ColumnSparsePolicy(SparsityConfig config, const TokenGrid& grid,
                                       std::uint64_t seed)
    : config_(std::move(config)),
      grid_(grid),
      seed_(seed),
      mlp_(config_.mlp, grid.num_tokens(), seed) {
  if (config_.patchify_is_enabled) order_ = voxel_order(grid, voxel_of(config_.attn.group_size));
}

ColumnSparsePolicy::SiteState& ColumnSparsePolicy::state_of(Site site) {
  const auto found = sites_.find({site.branch, site.layer});
  if (found == sites_.end()) {
    fail("sparse attention: layer {} of branch {} was not expected", site.layer,
         static_cast<int>(site.branch));
  }
  return found->second;
}

bool ColumnSparsePolicy::reads_caches(Site site, int step) const {
  if (find_plan(site) == nullptr) return false;
  const StepKind kind = step_kind(config_, step, site.layer);
  return kind == StepKind::kSparse || (kind == StepKind::kFull && !config_.attn.recompute_mask);
}

void ColumnSparsePolicy::begin_forward(Context& ctx, Branch branch, int step) {
  // The work of these steps, which may be a captured graph, rewrites what save() returns.
  const bool is_full = config_.attn.is_enabled && is_full_step(config_, step);
  if (is_full || config_.mlp.is_enabled) has_changed_ = true;
  mlp_.begin_forward(branch, step);
  const auto is_of_some_steps = [](const SparsityOverride& entry) {
    return entry.steps.first > 0 || entry.steps.last < std::numeric_limits<int>::max();
  };
  // Overrides may change values from this step on.
  if (is_full_step(config_, step) && std::ranges::any_of(config_.overrides, is_of_some_steps)) {
    ++versions_[static_cast<std::size_t>(branch)];
  }
  if (step_on_device_ == step) return;
  std::int32_t value = step;
  ctx.run(ops::Upload{.host = TensorView(&value, DType::kI32, {1}), .target = step_});
  step_on_device_ = step;
}

void ColumnSparsePolicy::begin_blocks(Context& ctx, Branch branch, int step) {
  if (!offload_) return;
  offload_->begin(ctx.backend);
  const Site first{branch, config_.attn.first_n_dense_layers};
  if (reads_caches(first, step)) offload_->fetch(ctx.backend, first);
}

void ColumnSparsePolicy::fetch_caches(Context& ctx, Site site, int step) {
  if (reads_caches(site, step)) offload_->await(ctx.backend, site);
  const Site next{site.branch, site.layer + 1};
  if (next.layer < num_layers_ && reads_caches(next, step)) offload_->fetch(ctx.backend, next);
}

// The first two passes of a branch, which have no columns yet, are unlike all others.
std::optional<GraphKey> ColumnSparsePolicy::graph_key(Branch branch, int step) const {
  const bool is_full = config_.attn.is_enabled && is_full_step(config_, step);
  std::uint32_t kind = 2 * static_cast<std::uint32_t>(mlp_.work(branch)) + (is_full ? 1 : 0);
  const auto first = sites_.find({branch, config_.attn.first_n_dense_layers});
  if (first != sites_.end()) {
    kind = 4 * kind + (first->second.has_lse ? 1 : 0) + (first->second.has_plan ? 2 : 0);
  }
  return GraphKey{.kind = kind, .version = versions_[static_cast<std::size_t>(branch)]};
}

void ColumnSparsePolicy::attend(Context& ctx, Site site, int step, const AttentionInputs& in,
                                const TensorView& out) {
  const StepKind kind = step_kind(config_, step, site.layer);
  if (kind == StepKind::kDense) {
    ctx.run(ops::Attention{.in = in, .to = {out}});
    return;
  }
  const Arena::Scope scope(ctx.scratch);
  if (offload_) fetch_caches(ctx, site, step);
  SiteState& state = state_of(site);
  // A branch that did not run at the full steps has no plan yet.
  if (kind == StepKind::kFull || !state.has_plan) {
    run_full(ctx, site, step, in, out, state);
  } else {
    ctx.run(ops::ColumnSparseAttention{
        .in = in, .columns = state.plan->lists(ctx), .delta = state.delta, .to = {out}});
  }
}

const ColumnPlan* ColumnSparsePolicy::find_plan(Site site) const {
  const auto found = sites_.find({site.branch, site.layer});
  if (found == sites_.end() || !found->second.has_plan) return nullptr;
  return found->second.plan.get();
}

void ColumnSparsePolicy::run_full(Context& ctx, Site site, int step, const AttentionInputs& in,
                                  const TensorView& out, SiteState& state) {
  has_changed_ = true;  // at a sparse step, too, if the branch has not run at a full one
  const Shape lse_shape{in.q.dim(0), in.q.dim(1)};
  if (!state.has_lse) {
    ctx.run(ops::Attention{.in = in, .to = {out, state.lse}});
    state.has_lse = true;
    return;
  }
  if (offload_) offload_->take(ctx.backend, site);
  // The previous log-sum-exp is read while the new one is written.
  const AttentionOutputs dense{out, ctx.scratch.allocate(DType::kF32, lse_shape)};
  attend_and_choose(ctx, site, step, in, dense, state);
  ctx.run(ops::Copy{.source = dense.lse, .target = state.lse});
  const DeltaKind delta = resolve_attention(config_, step, site.layer).delta;
  cache_delta(ctx, site, delta, in, dense, state);
  if (offload_) offload_->write_back(ctx.backend, site);
}

void ColumnSparsePolicy::attend_and_choose(Context& ctx, Site site, int step,
                                           const AttentionInputs& in, const AttentionOutputs& to,
                                           SiteState& state) {
  if (state.has_plan && !config_.attn.recompute_mask) {
    ctx.run(ops::Attention{.in = in, .to = to});
    return;
  }
  const AttentionSparsity attn = resolve_attention(config_, step, site.layer);
  const ColumnRule rule(attn);
  const TensorView& fixed = fixed_[static_cast<std::size_t>(site.branch)];
  const Arena::Scope scope(ctx.scratch);
  const TensorView sums =
      ctx.scratch.allocate(DType::kF32, {in.q.dim(0), fixed.dim(0), in.k.dim(1)});
  ctx.run(ops::AttentionWithColumnSums{.in = in,
                                       .scores_lse = state.lse,
                                       .sums = sums,
                                       .group_size = attn.group_size,
                                       .query_stride = attn.score_queries,
                                       .to = to});
  state.plan->choose(ctx, rule, fixed, sums, plan_seed(seed_, PlanKind::kAttention, site), step_);
  state.has_plan = true;
}

void ColumnSparsePolicy::describe_delta(Site site, DeltaKind kind, SiteState& state) const {
  state.delta = {};
  if (kind == DeltaKind::kNone) return;
  if (offload_) state.delta.cache = offload_->cache(site);
  if (!state.delta.cache) state.delta.cache = state.cache;
  state.delta.cache_scale = state.cache_scale;
  if (kind != DeltaKind::kSubtract) state.delta.weight = state.weight;
  state.delta.is_merged = kind == DeltaKind::kLseMerge || kind == DeltaKind::kHalfMerge;
  if (kind == DeltaKind::kHalfMerge) state.delta.follow = kHalfMergeFollow;
}

void ColumnSparsePolicy::cache_delta(Context& ctx, Site site, DeltaKind kind,
                                     const AttentionInputs& in, const AttentionOutputs& dense,
                                     SiteState& state) {
  describe_delta(site, kind, state);
  if (!state.delta.cache) return;
  const AttentionOutputs sparse{ctx.activation(dense.out.shape()),
                                ctx.scratch.allocate(DType::kF32, dense.lse.shape())};
  ctx.run(ops::ColumnSparseAttention{.in = in, .columns = state.plan->lists(ctx), .to = sparse});
  ctx.run(ops::FindDelta{.dense = dense, .sparse = sparse, .delta = state.delta});
}

TensorView ColumnSparsePolicy::run_mlp(Context& ctx, Site site, int /*step*/, const MlpInputs& in) {
  return mlp_.run(ctx, site, step_, in);
}

void ColumnSparsePolicy::end_blocks(Context& ctx) {
  if (offload_) offload_->finish(ctx.backend);
}

}  // namespace mochi
