// Matmuls with fused epilogues: one kernel on Hopper, two steps elsewhere.
#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/quantised.cuh"
#include "backend/cuda/sm90/fused_linear.h"
#include "backend/two_steps.h"

namespace mochi::cuda {

extern template void compute(Gpu&, const ops::Linear&);
extern template void compute(Gpu&, const ops::GatedActivation&);
extern template void compute(Gpu&, const ops::QkNormRope&);

void run(Gpu& gpu, const ops::GatedLinear& op) {
  if (op.out.is_quantised()) {
    Arena& scratch = op.scratch;
    const Arena::Scope scope(scratch);
    ops::GatedLinear to_dense = op;
    to_dense.out = scratch.allocate(gpu.activation_dtype(), op.out.shape());
    run(gpu, to_dense);
    return launch_quantise(gpu, to_dense.out.values(), op.out);
  }
  const sm90::GatedLinearParams params{.g_x = op.x.values().bytes(),
                                       .g_weight = op.weight.values().bytes(),
                                       .scales = scales_of(op.x, op.weight),
                                       .g_out = op.out.values().bytes(),
                                       .rows = op.x.dim(0),
                                       .k = op.x.dim(1),
                                       .features = op.out.dim(1),
                                       .activation = op.activation};
  if (gpu.is_hopper() && gpu.activation_dtype() == DType::kBF16 &&
      sm90::suits_gated_linear(params)) {
    return sm90::launch_gated_linear(params, gpu.num_multiprocessors(), gpu.stream());
  }
  gated_linear_in_two_steps(gpu, op);
}
template void compute(Gpu&, const ops::GatedLinear&);

void run(Gpu& gpu, const ops::QkvLinear& op) {
  const sm90::QkvLinearParams params{.g_x = op.x.values().bytes(),
                                     .g_weight = op.weight.values().bytes(),
                                     .scales = scales_of(op.x, op.weight),
                                     .g_q_weight = data_of<const float>(op.norm.q_weight),
                                     .g_k_weight = data_of<const float>(op.norm.k_weight),
                                     .g_cos = data_of<const float>(op.norm.cos),
                                     .g_sin = data_of<const float>(op.norm.sin),
                                     .g_q = op.q.bytes(),
                                     .g_k = op.k.bytes(),
                                     .g_v = op.v.bytes(),
                                     .tokens = op.x.dim(0),
                                     .k = op.x.dim(1),
                                     .offset = op.offset,
                                     .total = op.q.dim(1),
                                     .heads = op.q.dim(0),
                                     .head_dim = op.q.dim(2),
                                     .eps = op.norm.eps};
  if (gpu.is_hopper() && gpu.activation_dtype() == DType::kBF16 && sm90::suits_qkv_linear(params)) {
    return sm90::launch_qkv_linear(params, gpu.num_multiprocessors(), gpu.stream());
  }
  qkv_linear_in_two_steps(gpu, op);
}
template void compute(Gpu&, const ops::QkvLinear&);

}  // namespace mochi::cuda
