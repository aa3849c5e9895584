#include "sparsity/attention_policy.h"

namespace mochi {

void dense_mlp(Context& ctx, const MlpInputs& in, const TensorView& activations,
               const TensorView& out) {
  const Arena::Scope scope(ctx.scratch);
  const TensorView gates_and_values = ctx.activation({in.x.dim(0), in.w1.dim(0)});
  ctx.backend.linear(in.x, in.w1, {}, gates_and_values);
  ctx.backend.gated_activation(gates_and_values, Activation::kSilu, activations);
  ctx.backend.linear(activations, in.w2, {}, out);
}

TensorView dense_mlp(Context& ctx, const MlpInputs& in) {
  const TensorView out = ctx.activation(in.x.shape());
  const Arena::Scope scope(ctx.scratch);
  dense_mlp(ctx, in, ctx.activation({in.x.dim(0), in.w2.dim(1)}), out);
  return out;
}

}  // namespace mochi
