// Operations that have no kernel yet.
#include "backend/cuda/cuda_backend.h"
#include "base/error.h"

namespace mochi {
namespace {

[[noreturn]] void fail_missing(const char* op) { fail("{}: not computed on a GPU yet", op); }

}  // namespace

void CudaBackend::do_copy(const TensorView& /*source*/, const TensorView& /*target*/) {
  fail_missing("copy");
}
void CudaBackend::do_add(const TensorView& /*a*/, const TensorView& /*b*/,
                         const TensorView& /*out*/) {
  fail_missing("add");
}
void CudaBackend::do_mean_rows(const TensorView& /*x*/, const TensorView& /*out*/,
                               std::int64_t /*block_size*/) {
  fail_missing("mean_rows");
}
void CudaBackend::do_transpose(const TensorView& /*x*/, const TensorView& /*out*/) {
  fail_missing("transpose");
}
void CudaBackend::do_linear(const TensorView& /*x*/, const TensorView& /*weight*/,
                            const TensorView& /*bias*/, const TensorView& /*out*/,
                            const LinearOptions& /*options*/) {
  fail_missing("linear");
}
void CudaBackend::do_gated_activation(const TensorView& /*x*/, Activation /*activation*/,
                                      const TensorView& /*out*/) {
  fail_missing("gated_activation");
}
void CudaBackend::do_embedding(std::span<const std::int32_t> /*ids*/, const TensorView& /*table*/,
                               const TensorView& /*out*/) {
  fail_missing("embedding");
}
void CudaBackend::do_rms_norm(const TensorView& /*x*/, const TensorView& /*weight*/, float /*eps*/,
                              const TensorView& /*out*/) {
  fail_missing("rms_norm");
}
void CudaBackend::do_split_heads(const TensorView& /*x*/, const TensorView& /*out*/) {
  fail_missing("split_heads");
}
void CudaBackend::do_patchify(const TensorView& /*latents*/, int /*patch_size*/,
                              const TensorView& /*out*/) {
  fail_missing("patchify");
}
void CudaBackend::do_unpatchify(const TensorView& /*tokens*/, int /*patch_size*/,
                                const TensorView& /*latents*/) {
  fail_missing("unpatchify");
}
void CudaBackend::do_norm_modulate(const TensorView& /*x*/, const TensorView& /*scale*/,
                                   float /*eps*/, const TensorView& /*out*/) {
  fail_missing("norm_modulate");
}
void CudaBackend::do_layer_norm_modulate(const TensorView& /*x*/, const TensorView& /*shift*/,
                                         const TensorView& /*scale*/, float /*eps*/,
                                         const TensorView& /*out*/) {
  fail_missing("layer_norm_modulate");
}
void CudaBackend::do_qk_norm_rope(const TensorView& /*qkv*/, const QkNormRope& /*params*/,
                                  std::int64_t /*offset*/, const TensorView& /*q*/,
                                  const TensorView& /*k*/, const TensorView& /*v*/) {
  fail_missing("qk_norm_rope");
}
void CudaBackend::do_gated_residual(const TensorView& /*r*/, const TensorView& /*gate*/,
                                    float /*eps*/, const TensorView& /*x*/) {
  fail_missing("gated_residual");
}
void CudaBackend::do_guided_euler(const TensorView& /*v_cond*/, const TensorView& /*v_null*/,
                                  float /*cfg*/, float /*dsigma*/, const TensorView& /*z*/) {
  fail_missing("guided_euler");
}
void CudaBackend::do_latents_to_channels_last(const TensorView& /*latents*/,
                                              const TensorView& /*scale*/,
                                              const TensorView& /*shift*/,
                                              const TensorView& /*out*/) {
  fail_missing("latents_to_channels_last");
}
void CudaBackend::do_channels_last_to_latents(const TensorView& /*x*/, const TensorView& /*scale*/,
                                              const TensorView& /*shift*/,
                                              const TensorView& /*out*/) {
  fail_missing("channels_last_to_latents");
}
void CudaBackend::do_group_norm(const TensorView& /*x*/, const GroupNorm& /*params*/,
                                const TensorView& /*out*/) {
  fail_missing("group_norm");
}
void CudaBackend::do_conv3d(const TensorView& /*x*/, const Conv3d& /*params*/,
                            const TensorView& /*out*/) {
  fail_missing("conv3d");
}
void CudaBackend::do_depth_to_space_time(const TensorView& /*x*/, const Upsample& /*upsample*/,
                                         const TensorView& /*out*/) {
  fail_missing("depth_to_space_time");
}
void CudaBackend::do_fourier_features(const TensorView& /*x*/, std::span<const int> /*frequencies*/,
                                      const TensorView& /*out*/) {
  fail_missing("fourier_features");
}
void CudaBackend::do_temporal_attention(const TensorView& /*qkv*/, int /*head_dim*/,
                                        const TensorView& /*out*/) {
  fail_missing("temporal_attention");
}
void CudaBackend::do_to_rgb8(const TensorView& /*x*/, const TensorView& /*out*/) {
  fail_missing("to_rgb8");
}

}  // namespace mochi
