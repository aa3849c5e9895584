#include "sparsity/sparse_mlp.h"

#include "base/error.h"
#include "sparsity/schedule.h"

namespace mochi {

void SparseMlp::allocate(Backend& backend, const StateSizes& sizes) {
  if (!mlp_.is_enabled) return;
  const std::int64_t width = sizes.num_heads * sizes.head_dim;
  const auto make = [&](DType dtype, const Shape& shape) {
    return Tensor(dtype, shape, backend.allocator());
  };
  const DType activation = backend.activation_dtype();
  no_columns_ = upload_bits(backend, ColumnBits(num_blocks(), sizes.mlp_hidden));
  for (int layer = mlp_.first_n_dense_layers; layer < sizes.num_layers; ++layer) {
    w2_rows_[layer].rows = make(sizes.mlp_dtype, {sizes.mlp_hidden, width});
    for (const Branch branch : {Branch::kCond, Branch::kNull}) {
      if (sizes.num_tokens[static_cast<std::size_t>(branch)] == 0) continue;
      SiteState& state = sites_[{branch, layer}];
      state.activations = make(activation, {num_tokens_, sizes.mlp_hidden});
      state.out = make(activation, {num_tokens_, width});
      state.means = make(activation, {num_blocks(), 2 * sizes.mlp_hidden});
      state.plan = std::make_unique<ColumnPlan>(backend, ColumnRule(mlp_),
                                                Shape{1, num_blocks(), sizes.mlp_hidden});
    }
  }
}

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

TensorView SparseMlp::run(Context& ctx, Site site, const TensorView& step, const MlpInputs& in) {
  if (!mlp_.is_enabled || site.layer < mlp_.first_n_dense_layers) return dense_mlp(ctx, in);
  const Arena::Scope scope(ctx.scratch);
  const auto found = sites_.find({site.branch, site.layer});
  if (found == sites_.end()) fail("sparse feed-forward: layer {} was not expected", site.layer);
  SiteState& state = found->second;
  const Work now = work(site.branch);
  // A checkpoint may lack what a site needs.
  if (now == Work::kFull || !state.has_activations) {
    run_full(ctx, in, state);
    return state.out;
  }
  if (now == Work::kChoose || !state.has_plan) choose(ctx, site, step, in, state);
  ctx.run(ops::ColumnSparseMlp{.x = in.x.values(),
                               .w1 = in.w1,
                               .w2_rows = w2_rows(ctx.backend, site.layer, in.w2),
                               .columns = state.plan->lists(ctx),
                               .activations = state.activations,
                               .out = state.out,
                               .means = state.means});
  return state.out;
}

void SparseMlp::run_full(Context& ctx, const MlpInputs& in, SiteState& state) {
  dense_mlp(ctx, in, state.activations, state.out);
  find_means(ctx, in, state.means);
  state.has_activations = true;
}

void SparseMlp::choose(Context& ctx, Site site, const TensorView& step, const MlpInputs& in,
                       SiteState& state) {
  const Arena::Scope scope(ctx.scratch);
  const ColumnRule rule(mlp_);
  const TensorView means = ctx.activation(state.means.view().shape());
  find_means(ctx, in, means);
  const std::int64_t hidden = in.w2.dim(1);
  const TensorView scores = ctx.scratch.allocate(DType::kF32, {1, num_blocks(), hidden});
  ctx.run(ops::FindMovement{.means = means, .former = state.means, .scores = scores});
  state.plan->choose(ctx, rule, no_columns_, scores, plan_seed(seed_, PlanKind::kMlp, site), step);
  state.has_plan = true;
}

void SparseMlp::find_means(Context& ctx, const MlpInputs& in, const TensorView& means) const {
  const Arena::Scope scope(ctx.scratch);
  const TensorView inputs = ctx.activation({num_blocks(), in.x.dim(1)});
  ctx.run(ops::MeanRows{.x = in.x.values(), .out = inputs, .block_size = mlp_.block_size});
  ctx.run(ops::Linear{.x = inputs, .weight = in.w1, .out = means});
}

const Tensor& SparseMlp::w2_rows(Backend& backend, int layer, const MatrixView& w2) {
  Transposed& transposed = w2_rows_.at(layer);
  if (!transposed.is_filled) {
    backend.run(ops::Transpose{.x = w2, .out = transposed.rows});
    transposed.is_filled = true;
  }
  return transposed.rows;
}

}  // namespace mochi
