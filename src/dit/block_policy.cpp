#include "dit/block_policy.h"

namespace mochi {

void dense_mlp(Context& ctx, const MlpInputs& in, const MatrixView& activations,
               const TensorView& out) {
  ctx.run(ops::GatedLinear{.x = in.x,
                           .weight = in.w1,
                           .activation = Activation::kSilu,
                           .scratch = ctx.scratch,
                           .out = activations});
  ctx.run(ops::Linear{.x = activations, .weight = in.w2, .out = out});
}

TensorView dense_mlp(Context& ctx, const MlpInputs& in) {
  const TensorView out = ctx.activation(in.x.shape());
  const Arena::Scope scope(ctx.scratch);
  dense_mlp(ctx, in, ctx.rows_for(in.w2, in.x.dim(0)), out);
  return out;
}

}  // namespace mochi
