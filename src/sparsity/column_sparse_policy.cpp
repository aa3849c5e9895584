#include "sparsity/column_sparse_policy.h"

#include <algorithm>
#include <limits>

namespace mochi {

ColumnSparsePolicy::ColumnSparsePolicy(SparsityConfig config, const TokenGrid& grid,
                                       std::uint64_t seed)
    : config_(std::move(config)),
      grid_(grid),
      seed_(seed),
      mlp_(config_.mlp, grid.num_tokens(), seed) {
  if (config_.patchify_is_enabled) order_ = voxel_order(grid, voxel_of(config_.attn.group_size));
}

const TensorView& ColumnSparsePolicy::fixed_columns(Backend& backend, std::int64_t num_tokens) {
  const std::int64_t num_text = num_tokens - grid_.num_tokens();
  Tensor& bits = fixed_[num_text];
  if (!bits) bits = upload_bits(backend, find_static_columns(config_, grid_, num_text));
  return bits.view();
}

bool ColumnSparsePolicy::reads_caches(AttentionSite site, int step) const {
  if (find_plan(site) == nullptr) return false;
  const StepKind kind = step_kind(config_, step, site.layer);
  return kind == StepKind::kSparse || (kind == StepKind::kFull && !config_.attn.recompute_mask);
}

void ColumnSparsePolicy::provide(Backend& backend, Branch branch, DType dtype, const Shape& shape,
                                 Tensor& tensor) {
  if (tensor) return;
  tensor = Tensor(dtype, shape, backend.allocator());
  ++epochs_[static_cast<std::size_t>(branch)];
}

void ColumnSparsePolicy::begin_forward(Context& ctx, Branch branch, int step) {
  // The work of these steps, which may be a captured graph, rewrites what save() returns.
  const bool is_full = config_.attn.is_enabled && is_full_step(config_, step);
  if (is_full || config_.mlp.is_enabled || config_.step_caching.is_enabled) has_changed_ = true;
  mlp_.begin_forward(branch, step);
  const auto is_of_some_steps = [](const SparsityOverride& entry) {
    return entry.steps.first > 0 || entry.steps.last < std::numeric_limits<int>::max();
  };
  // Overrides may change values from this step on.
  if (is_full_step(config_, step) && std::ranges::any_of(config_.overrides, is_of_some_steps)) {
    ++epochs_[static_cast<std::size_t>(branch)];
  }
  if (step_on_device_ == step) return;
  if (!step_) step_ = Tensor(DType::kI32, {1}, ctx.backend.allocator());
  std::int32_t value = step;
  ctx.backend.upload(TensorView(&value, DType::kI32, {1}), step_);
  step_on_device_ = step;
}

void ColumnSparsePolicy::begin_blocks(Context& ctx, Branch branch, int step) {
  if (!offload_) return;
  offload_->begin(ctx.backend);
  const AttentionSite first{branch, config_.attn.first_n_dense_layers};
  if (reads_caches(first, step)) offload_->fetch(ctx.backend, first);
}

void ColumnSparsePolicy::fetch_caches(Context& ctx, AttentionSite site, int step) {
  if (reads_caches(site, step)) offload_->await(ctx.backend, site);
  const AttentionSite next{site.branch, site.layer + 1};
  if (next.layer < num_layers_ && reads_caches(next, step)) offload_->fetch(ctx.backend, next);
}

std::optional<RecordingKey> ColumnSparsePolicy::recording_key(Branch branch, int step) const {
  enum Kind : std::uint32_t { kSkipped, kOthers };
  RecordingKey key{.epoch = epochs_[static_cast<std::size_t>(branch)] + mlp_.epoch()};
  if (cached_hidden(branch, step)) {
    key.kind = kSkipped;
    return key;
  }
  const bool is_full = config_.attn.is_enabled && is_full_step(config_, step);
  key.kind = kOthers + 2 * static_cast<std::uint32_t>(mlp_.work(branch)) + (is_full ? 1 : 0);
  return key;
}

void ColumnSparsePolicy::attend(Context& ctx, AttentionSite site, int step,
                                const AttentionInputs& in, const TensorView& out) {
  const StepKind kind = step_kind(config_, step, site.layer);
  if (kind == StepKind::kDense) {
    ctx.backend.attention(in, {out});
    return;
  }
  const Arena::Scope scope(ctx.scratch);
  if (offload_) fetch_caches(ctx, site, step);
  SiteState& state = sites_[{site.branch, site.layer}];
  // A branch that did not run at the full steps has no plan yet.
  if (kind == StepKind::kFull || !state.plan) {
    run_full(ctx, site, step, in, out, state);
  } else {
    ctx.backend.column_sparse_attention(in, state.plan->lists(ctx), state.delta, {out});
  }
}

const ColumnPlan* ColumnSparsePolicy::find_plan(AttentionSite site) const {
  const auto found = sites_.find({site.branch, site.layer});
  if (found == sites_.end()) return nullptr;
  const std::optional<ColumnPlan>& plan = found->second.plan;
  return plan ? &*plan : nullptr;
}

void ColumnSparsePolicy::run_full(Context& ctx, AttentionSite site, int step,
                                  const AttentionInputs& in, const TensorView& out,
                                  SiteState& state) {
  has_changed_ = true;  // at a sparse step, too, if the branch has not run at a full one
  const Shape lse_shape{in.q.dim(0), in.q.dim(1)};
  if (!state.lse) {
    provide(ctx.backend, site.branch, DType::kF32, lse_shape, state.lse);
    ctx.backend.attention(in, {out, state.lse});
    return;
  }
  if (offload_) offload_->take(ctx.backend, site);
  // The previous log-sum-exp is read while the new one is written.
  const AttentionOutputs dense{out, ctx.scratch.allocate(DType::kF32, lse_shape)};
  attend_and_choose(ctx, site, step, in, dense, state);
  ctx.backend.copy(dense.lse, state.lse);
  const DeltaKind delta = resolve_attention(config_, step, site.layer).delta;
  cache_delta(ctx, site, delta, in, dense, state);
  if (offload_) offload_->write_back(ctx.backend, site);
}

void ColumnSparsePolicy::attend_and_choose(Context& ctx, AttentionSite site, int step,
                                           const AttentionInputs& in, const AttentionOutputs& to,
                                           SiteState& state) {
  if (state.plan && !config_.attn.recompute_mask) {
    ctx.backend.attention(in, to);
    return;
  }
  const AttentionSparsity attn = resolve_attention(config_, step, site.layer);
  const ColumnRule rule(attn);
  const TensorView& fixed = fixed_columns(ctx.backend, in.k.dim(1));
  const Arena::Scope scope(ctx.scratch);
  const TensorView sums =
      ctx.scratch.allocate(DType::kF32, {in.q.dim(0), fixed.dim(0), in.k.dim(1)});
  ctx.backend.attention_with_column_sums(in, {state.lse, sums, attn.group_size, attn.score_queries},
                                         to);
  if (!state.plan) {
    state.plan.emplace(ctx.backend, rule, sums.shape(),
                       offload_ ? offload_->bits(site) : TensorView());
    ++epochs_[static_cast<std::size_t>(site.branch)];
  }
  state.plan->choose(ctx, rule, fixed, sums, plan_seed(seed_, PlanKind::kAttention, site), step_);
}

void ColumnSparsePolicy::cache_delta(Context& ctx, AttentionSite site, DeltaKind kind,
                                     const AttentionInputs& in, const AttentionOutputs& dense,
                                     SiteState& state) {
  state.delta = {};
  if (kind == DeltaKind::kNone) return;
  Backend& backend = ctx.backend;
  const Shape& lse_shape = dense.lse.shape();
  if (offload_) state.delta.cache = offload_->cache(site);
  if (!state.delta.cache) {
    provide(backend, site.branch, find_cache_dtype(backend), dense.out.shape(), state.cache);
    state.delta.cache = state.cache;
  }
  if (config_.attn.cache_dtype == CacheDType::kFp8) {
    provide(backend, site.branch, DType::kF32, lse_shape, state.cache_scale);
    state.delta.cache_scale = state.cache_scale;
  }
  if (kind != DeltaKind::kSubtract) {
    provide(backend, site.branch, DType::kF32, lse_shape, state.weight);
    state.delta.weight = state.weight;
  }
  state.delta.is_merged = kind == DeltaKind::kLseMerge || kind == DeltaKind::kHalfMerge;
  if (kind == DeltaKind::kHalfMerge) state.delta.follow = kHalfMergeFollow;
  const AttentionOutputs sparse{ctx.activation(dense.out.shape()),
                                ctx.scratch.allocate(DType::kF32, lse_shape)};
  backend.column_sparse_attention(in, state.plan->lists(ctx), {}, sparse);
  backend.find_delta(dense, sparse, state.delta);
}

TensorView ColumnSparsePolicy::run_mlp(Context& ctx, AttentionSite site, int /*step*/,
                                       const MlpInputs& in) {
  return mlp_.run(ctx, site, step_, in);
}

TensorView ColumnSparsePolicy::cached_hidden(Branch branch, int step) const {
  const Tensor& hidden = hidden_[static_cast<std::size_t>(branch)];
  return skips_blocks(config_, step) ? hidden.view() : TensorView{};
}

void ColumnSparsePolicy::keep_hidden(Context& ctx, Branch branch, const TensorView& hidden) {
  if (offload_) offload_->finish(ctx.backend);
  if (!config_.step_caching.is_enabled) return;
  Tensor& kept = hidden_[static_cast<std::size_t>(branch)];
  provide(ctx.backend, branch, hidden.dtype(), hidden.shape(), kept);
  ctx.backend.copy(hidden, kept);
}

}  // namespace mochi
