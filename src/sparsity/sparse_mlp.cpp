#include "sparsity/sparse_mlp.h"

#include "sparsity/schedule.h"

namespace mochi {

void SparseMlp::begin_forward(Branch branch, int step) {
  if (!mlp_.is_enabled) return;
  BranchState& state = branches_[static_cast<std::size_t>(branch)];
  // A branch that did not run at the full steps has no activations yet.
  if (is_full_mlp_step(mlp_, step) || !state.has_activations) {
    state = {.work = Work::kFull, .has_activations = true};
  } else if (!state.chosen_at || step - *state.chosen_at >= mlp_.block_mask_cache) {
    state.work = Work::kChoose;
    state.chosen_at = step;
  } else {
    state.work = Work::kUpdate;
  }
}

TensorView SparseMlp::run(Context& ctx, AttentionSite site, const TensorView& step,
                          const MlpInputs& in) {
  if (!mlp_.is_enabled || site.layer < mlp_.first_n_dense_layers) return dense_mlp(ctx, in);
  const Arena::Scope scope(ctx.scratch);
  SiteState& state = sites_[{site.branch, site.layer}];
  const Work now = work(site.branch);
  // A checkpoint may lack what a site needs.
  if (now == Work::kFull || !state.activations) {
    run_full(ctx, in, state);
    return state.out;
  }
  if (now == Work::kChoose || !state.plan) choose(ctx, site, step, in, state);
  ctx.backend.column_sparse_mlp(in.x, in.w1, w2_rows(ctx.backend, site.layer, in.w2),
                                state.plan->lists(ctx),
                                {state.activations, state.out, state.means, mlp_.block_size});
  return state.out;
}

void SparseMlp::run_full(Context& ctx, const MlpInputs& in, SiteState& state) {
  if (!state.activations) {
    const auto make = [&](const Shape& shape) {
      return Tensor(ctx.backend.activation_dtype(), shape, ctx.backend.allocator());
    };
    state.activations = make({num_tokens_, in.w2.dim(1)});
    state.out = make({num_tokens_, in.w2.dim(0)});
    state.means = make({num_blocks(), in.w1.dim(0)});
    ++epoch_;
  }
  dense_mlp(ctx, in, state.activations, state.out);
  find_means(ctx, in, state.means);
}

void SparseMlp::choose(Context& ctx, AttentionSite site, const TensorView& step,
                       const MlpInputs& in, SiteState& state) {
  const Arena::Scope scope(ctx.scratch);
  const ColumnRule rule(mlp_);
  const TensorView means = ctx.activation(state.means.view().shape());
  find_means(ctx, in, means);
  const std::int64_t hidden = in.w2.dim(1);
  const TensorView scores = ctx.scratch.allocate(DType::kF32, {1, num_blocks(), hidden});
  ctx.backend.find_movement(means, state.means, scores);
  if (!no_columns_) no_columns_ = upload_bits(ctx.backend, ColumnBits(num_blocks(), hidden));
  if (!state.plan) {
    state.plan.emplace(ctx.backend, rule, scores.shape());
    ++epoch_;
  }
  state.plan->choose(ctx, rule, no_columns_, scores, plan_seed(seed_, PlanKind::kMlp, site), step);
}

void SparseMlp::find_means(Context& ctx, const MlpInputs& in, const TensorView& means) const {
  const Arena::Scope scope(ctx.scratch);
  const TensorView inputs = ctx.activation({num_blocks(), in.x.dim(1)});
  ctx.backend.mean_rows(in.x, inputs, mlp_.block_size);
  ctx.backend.linear(inputs, in.w1, {}, means);
}

const Tensor& SparseMlp::w2_rows(Backend& backend, int layer, const MatrixView& w2) {
  Tensor& rows = w2_rows_[layer];
  if (!rows) {
    rows = Tensor(w2.dtype(), {w2.dim(1), w2.dim(0)}, backend.allocator());
    backend.transpose(w2, rows);
    ++epoch_;
  }
  return rows;
}

}  // namespace mochi
