#include "sparsity/attention_policy.h"

namespace mochi {

void dense_mlp(Context& ctx, const MlpInputs& in, const TensorView& activations,
               const TensorView& out) {
  ctx.backend.gated_linear(in.x, in.w1, Activation::kSilu, ctx.scratch, activations);
  ctx.backend.linear(activations, in.w2, {}, out);
}

TensorView dense_mlp(Context& ctx, const MlpInputs& in) {
  const TensorView out = ctx.activation(in.x.shape());
  const Arena::Scope scope(ctx.scratch);
  dense_mlp(ctx, in, ctx.activation({in.x.dim(0), in.w2.dim(1)}), out);
  return out;
}

}  // namespace mochi
