// Matmuls with fused epilogues: one kernel on Hopper, two steps elsewhere.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/dispatch.cuh"
#include "backend/cuda/sm90/fused_linear.h"

namespace mochi {

void CudaBackend::do_gated_linear(const TensorView& x, const TensorView& weight,
                                  Activation activation, Arena& scratch, const TensorView& out) {
  const cuda::sm90::GatedLinearParams params{.g_x = x.bytes(),
                                             .g_weight = weight.bytes(),
                                             .g_out = out.bytes(),
                                             .rows = x.dim(0),
                                             .k = x.dim(1),
                                             .features = out.dim(1),
                                             .activation = activation};
  if (is_hopper() && activation_dtype_ == DType::kBF16 && cuda::sm90::suits_gated_linear(params)) {
    return cuda::sm90::launch_gated_linear(params, properties_.multiProcessorCount, stream_);
  }
  Backend::do_gated_linear(x, weight, activation, scratch, out);
}

void CudaBackend::do_qkv_linear(const TensorView& x, const TensorView& weight,
                                const QkNormRope& norm_rope, std::int64_t offset, Arena& scratch,
                                const TensorView& q, const TensorView& k, const TensorView& v) {
  const cuda::sm90::QkvLinearParams params{
      .g_x = x.bytes(),
      .g_weight = weight.bytes(),
      .g_q_weight = cuda::data_of<const float>(norm_rope.q_weight),
      .g_k_weight = cuda::data_of<const float>(norm_rope.k_weight),
      .g_cos = cuda::data_of<const float>(norm_rope.cos),
      .g_sin = cuda::data_of<const float>(norm_rope.sin),
      .g_q = q.bytes(),
      .g_k = k.bytes(),
      .g_v = v.bytes(),
      .tokens = x.dim(0),
      .k = x.dim(1),
      .offset = offset,
      .total = q.dim(1),
      .heads = q.dim(0),
      .head_dim = q.dim(2),
      .eps = norm_rope.eps};
  if (is_hopper() && activation_dtype_ == DType::kBF16 && cuda::sm90::suits_qkv_linear(params)) {
    return cuda::sm90::launch_qkv_linear(params, properties_.multiProcessorCount, stream_);
  }
  Backend::do_qkv_linear(x, weight, norm_rope, offset, scratch, q, k, v);
}

}  // namespace mochi
