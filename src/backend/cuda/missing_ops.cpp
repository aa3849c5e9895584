// Operations that have no kernel yet.
#include "backend/cuda/cuda_backend.h"
#include "base/error.h"

namespace mochi {
namespace {

[[noreturn]] void fail_missing(const char* op) { fail("{}: not computed on a GPU yet", op); }

}  // namespace

void CudaBackend::do_attention(const AttentionInputs& /*in*/, const AttentionOutputs& /*to*/) {
  fail_missing("attention");
}
void CudaBackend::do_attention_with_column_sums(const AttentionInputs& /*in*/,
                                                const ColumnSums& /*scores*/,
                                                const AttentionOutputs& /*to*/) {
  fail_missing("attention_with_column_sums");
}
void CudaBackend::do_column_sparse_attention(const AttentionInputs& /*in*/,
                                             const ColumnLists& /*columns*/,
                                             const AttentionDelta& /*delta*/,
                                             const AttentionOutputs& /*to*/) {
  fail_missing("column_sparse_attention");
}
void CudaBackend::do_find_delta(const AttentionOutputs& /*dense*/,
                                const AttentionOutputs& /*sparse*/,
                                const AttentionDelta& /*delta*/) {
  fail_missing("find_delta");
}
void CudaBackend::do_select_columns(const ColumnChoice& /*choice*/, const TensorView& /*plan*/,
                                    const TensorView& /*counts*/) {
  fail_missing("select_columns");
}
void CudaBackend::do_expand_columns(const TensorView& /*plan*/, const ColumnLists& /*columns*/) {
  fail_missing("expand_columns");
}
void CudaBackend::do_find_movement(const TensorView& /*means*/, const TensorView& /*former*/,
                                   const TensorView& /*scores*/) {
  fail_missing("find_movement");
}
void CudaBackend::do_column_sparse_mlp(const TensorView& /*x*/, const TensorView& /*w1*/,
                                       const TensorView& /*w2_rows*/,
                                       const ColumnLists& /*columns*/, const MlpCache& /*cache*/) {
  fail_missing("column_sparse_mlp");
}
void CudaBackend::do_gather_rows(const TensorView& /*x*/, const TensorView& /*indices*/,
                                 const TensorView& /*out*/) {
  fail_missing("gather_rows");
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
