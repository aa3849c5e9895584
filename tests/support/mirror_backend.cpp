#include "support/mirror_backend.h"

#include "support/mirror_call.h"

namespace mochi {

void MirrorBackend::do_upload(const TensorView& host, const TensorView& target) {
  convert(host, target);
}

void MirrorBackend::do_download(const TensorView& source, const TensorView& host) {
  convert(source, host);
}

void MirrorBackend::do_fill_normal(const NormalFill& fill, const TensorView& target) {
  Call call(inner_, "fill_normal");
  inner_.fill_normal(fill, target.dtype() == DType::kF32 ? call.raw_out(target) : call.out(target));
  call.finish();
}

void MirrorBackend::do_prefetch(int /*slot*/, const TensorView& host, const TensorView& target) {
  convert(host, target);
}

void MirrorBackend::do_write_back(int /*slot*/, const TensorView& source, const TensorView& host) {
  convert(source, host);
}

void MirrorBackend::do_copy(const TensorView& source, const TensorView& target) {
  Call call(inner_, "copy");
  inner_.copy(call.raw_in(source), call.raw_out(target));
  call.finish();
}

void MirrorBackend::do_add(const TensorView& a, const TensorView& b, const TensorView& out) {
  Call call(inner_, "add");
  inner_.add(call.in(a), call.in(b), call.out(out));
  call.finish();
}

void MirrorBackend::do_silu(const TensorView& x, const TensorView& out) {
  Call call(inner_, "silu");
  inner_.silu(call.in(x), call.out(out));
  call.finish();
}

void MirrorBackend::do_mean_rows(const TensorView& x, const TensorView& out,
                                 std::int64_t block_size) {
  Call call(inner_, "mean_rows");
  inner_.mean_rows(call.in(x), call.out(out), block_size);
  call.finish();
}

void MirrorBackend::do_transpose(const TensorView& x, const TensorView& out) {
  Call call(inner_, "transpose");
  inner_.transpose(call.in(x), call.out(out));
  call.finish();
}

void MirrorBackend::do_widen(const MatrixView& matrix, const TensorView& out) {
  Call call(inner_, "widen");
  const TensorView scales = matrix.scales() ? call.raw_in(matrix.scales()) : TensorView();
  inner_.widen({matrix.type(), call.raw_in(matrix.values()), scales, matrix.shape(),
                inner_.activation_dtype()},
               call.out(out));
  call.finish();
}

void MirrorBackend::do_linear(const TensorView& x, const TensorView& weight, const TensorView& bias,
                              const TensorView& out, const LinearOptions& options) {
  Call call(inner_, "linear");
  inner_.linear(call.in(x), call.in(weight), call.raw_in(bias), call.out(out), options);
  call.finish();
}

void MirrorBackend::do_gated_activation(const TensorView& x, Activation activation,
                                        const TensorView& out) {
  Call call(inner_, "gated_activation");
  inner_.gated_activation(call.in(x), activation, call.out(out));
  call.finish();
}

void MirrorBackend::do_gated_linear(const TensorView& x, const TensorView& weight,
                                    Activation activation, Arena& /*scratch*/,
                                    const TensorView& out) {
  Call call(inner_, "gated_linear");
  Arena inner_scratch(inner_.allocator());
  inner_.gated_linear(call.in(x), call.in(weight), activation, inner_scratch, call.out(out));
  call.finish();
}

void MirrorBackend::do_attention(const AttentionInputs& in, const AttentionOutputs& to) {
  Call call(inner_, "attention");
  inner_.attention(call.in(in), call.out(to));
  call.finish();
}

void MirrorBackend::do_embedding(std::span<const std::int32_t> ids, const TensorView& table,
                                 const TensorView& out) {
  Call call(inner_, "embedding");
  inner_.embedding(ids, call.in(table), call.out(out));
  call.finish();
}

void MirrorBackend::do_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                                const TensorView& out) {
  Call call(inner_, "rms_norm");
  inner_.rms_norm(call.in(x), call.raw_in(weight), eps, call.out(out));
  call.finish();
}

void MirrorBackend::do_patchify(const TensorView& latents, int patch_size, const TensorView& out) {
  Call call(inner_, "patchify");
  inner_.patchify(call.raw_in(latents), patch_size, call.out(out));
  call.finish();
}

void MirrorBackend::do_unpatchify(const TensorView& tokens, int patch_size,
                                  const TensorView& latents) {
  Call call(inner_, "unpatchify");
  inner_.unpatchify(call.in(tokens), patch_size, call.raw_out(latents));
  call.finish();
}

void MirrorBackend::do_norm_modulate(const TensorView& x, const TensorView& scale, float eps,
                                     const TensorView& out) {
  Call call(inner_, "norm_modulate");
  inner_.norm_modulate(call.in(x), call.in(scale), eps, call.out(out));
  call.finish();
}

void MirrorBackend::do_layer_norm_modulate(const TensorView& x, const TensorView& shift,
                                           const TensorView& scale, float eps,
                                           const TensorView& out) {
  Call call(inner_, "layer_norm_modulate");
  inner_.layer_norm_modulate(call.in(x), call.in(shift), call.in(scale), eps, call.out(out));
  call.finish();
}

void MirrorBackend::do_qk_norm_rope(const TensorView& qkv, const QkNormRope& params,
                                    std::int64_t offset, const TensorView& q, const TensorView& k,
                                    const TensorView& v) {
  Call call(inner_, "qk_norm_rope");
  inner_.qk_norm_rope(call.in(qkv), call.in(params), offset, call.out(q), call.out(k), call.out(v));
  call.finish();
}

void MirrorBackend::do_qkv_linear(const TensorView& x, const TensorView& weight,
                                  const QkNormRope& params, std::int64_t offset, Arena& /*scratch*/,
                                  const TensorView& q, const TensorView& k, const TensorView& v) {
  Call call(inner_, "qkv_linear");
  Arena inner_scratch(inner_.allocator());
  inner_.qkv_linear(call.in(x), call.in(weight), call.in(params), offset, inner_scratch,
                    call.out(q), call.out(k), call.out(v));
  call.finish();
}

void MirrorBackend::do_gated_residual(const TensorView& r, const GatedResidual& params,
                                      const TensorView& x) {
  Call call(inner_, "gated_residual");
  inner_.gated_residual(call.in(r),
                        {.gate = call.in(params.gate),
                         .bias = call.raw_in(params.bias),
                         .next_scale = call.in(params.next_scale),
                         .next_out = call.out(params.next_out),
                         .eps = params.eps},
                        call.out(x));
  call.finish();
}

void MirrorBackend::do_attention_with_column_sums(const AttentionInputs& in,
                                                  const ColumnSums& scores,
                                                  const AttentionOutputs& to) {
  Call call(inner_, "attention_with_column_sums");
  const ColumnSums inner_scores{call.raw_in(scores.lse), call.raw_out(scores.sums),
                                scores.group_size, scores.query_stride};
  inner_.attention_with_column_sums(call.in(in), inner_scores, call.out(to));
  call.finish();
}

void MirrorBackend::do_column_sparse_attention(const AttentionInputs& in,
                                               const ColumnLists& columns,
                                               const AttentionDelta& delta,
                                               const AttentionOutputs& to) {
  Call call(inner_, "column_sparse_attention");
  const AttentionDelta inner_delta{
      delta.cache_scale ? call.raw_in(delta.cache) : call.in(delta.cache),
      call.raw_in(delta.weight), delta.is_merged, delta.follow, call.raw_in(delta.cache_scale)};
  inner_.column_sparse_attention(call.in(in), call.in(columns), inner_delta, call.out(to));
  call.finish();
}

void MirrorBackend::do_find_delta(const AttentionOutputs& dense, const AttentionOutputs& sparse,
                                  const AttentionDelta& delta) {
  Call call(inner_, "find_delta");
  const AttentionDelta inner_delta{
      delta.cache_scale ? call.raw_out(delta.cache) : call.out(delta.cache),
      call.raw_out(delta.weight), delta.is_merged, delta.follow, call.raw_out(delta.cache_scale)};
  inner_.find_delta({call.in(dense.out), call.raw_in(dense.lse)},
                    {call.in(sparse.out), call.raw_in(sparse.lse)}, inner_delta);
  call.finish();
}

void MirrorBackend::do_select_columns(const ColumnChoice& choice, const TensorView& plan,
                                      const TensorView& offsets) {
  Call call(inner_, "select_columns");
  ColumnChoice inner_choice = choice;
  inner_choice.scores = call.raw_in(choice.scores);
  inner_choice.fixed = call.raw_in(choice.fixed);
  inner_choice.step = call.raw_in(choice.step);
  inner_.select_columns(inner_choice, call.raw_out(plan), call.raw_out(offsets));
  call.finish();
}

void MirrorBackend::do_expand_columns(const TensorView& plan, const ColumnLists& columns) {
  Call call(inner_, "expand_columns");
  const ColumnLists inner_columns{call.raw_in(columns.offsets), call.raw_out(columns.columns),
                                  columns.group_size};
  inner_.expand_columns(call.raw_in(plan), inner_columns);
  call.finish();
}

void MirrorBackend::do_find_movement(const TensorView& means, const TensorView& former,
                                     const TensorView& scores) {
  Call call(inner_, "find_movement");
  inner_.find_movement(call.in(means), call.in(former), call.raw_out(scores));
  call.finish();
}

void MirrorBackend::do_column_sparse_mlp(const TensorView& x, const TensorView& w1,
                                         const TensorView& w2_rows, const ColumnLists& columns,
                                         const MlpCache& cache) {
  Call call(inner_, "column_sparse_mlp");
  const MlpCache inner_cache{call.out(cache.activations), call.out(cache.out),
                             call.out(cache.means), cache.block_size};
  inner_.column_sparse_mlp(call.in(x), call.in(w1), call.in(w2_rows), call.in(columns),
                           inner_cache);
  call.finish();
}

void MirrorBackend::do_gather_rows(const TensorView& x, const TensorView& indices,
                                   const TensorView& out) {
  Call call(inner_, "gather_rows");
  inner_.gather_rows(call.in(x), call.raw_in(indices), call.out(out));
  call.finish();
}

void MirrorBackend::do_guided_euler(const TensorView& v_cond, const TensorView& v_null, float cfg,
                                    float dsigma, const TensorView& z) {
  Call call(inner_, "guided_euler");
  inner_.guided_euler(call.raw_in(v_cond), call.raw_in(v_null), cfg, dsigma, call.raw_out(z));
  call.finish();
}

void MirrorBackend::do_weighted_sum(const TensorView& a, float weight_a, const TensorView& b,
                                    float weight_b, const TensorView& out) {
  Call call(inner_, "weighted_sum");
  inner_.weighted_sum(call.raw_in(a), weight_a, call.raw_in(b), weight_b, call.raw_out(out));
  call.finish();
}

void MirrorBackend::do_difference_norms(const TensorView& a, const TensorView& b,
                                        Arena& /*scratch*/, const TensorView& out) {
  Call call(inner_, "difference_norms");
  Arena inner_scratch(inner_.allocator());
  inner_.difference_norms(call.raw_in(a), call.raw_in(b), inner_scratch, call.raw_out(out));
  call.finish();
}

void MirrorBackend::do_latents_to_channels_last(const TensorView& latents, const TensorView& scale,
                                                const TensorView& shift, const TensorView& out) {
  Call call(inner_, "latents_to_channels_last");
  inner_.latents_to_channels_last(call.raw_in(latents), call.raw_in(scale), call.raw_in(shift),
                                  call.out(out));
  call.finish();
}

void MirrorBackend::do_channels_last_to_latents(const TensorView& x, const TensorView& scale,
                                                const TensorView& shift, const TensorView& out) {
  Call call(inner_, "channels_last_to_latents");
  inner_.channels_last_to_latents(call.in(x), call.raw_in(scale), call.raw_in(shift),
                                  call.raw_out(out));
  call.finish();
}

void MirrorBackend::do_group_norm(const TensorView& x, const GroupNorm& params,
                                  const TensorView& out) {
  Call call(inner_, "group_norm");
  GroupNorm inner_params = params;
  inner_params.weight = call.raw_in(params.weight);
  inner_params.bias = call.raw_in(params.bias);
  inner_.group_norm(call.in(x), inner_params, call.out(out));
  call.finish();
}

void MirrorBackend::do_conv3d(const TensorView& x, const Conv3d& params, const TensorView& out) {
  Call call(inner_, "conv3d");
  const Conv3d inner_params{call.in(params.weight), call.raw_in(params.bias),
                            call.in(params.residual), params.stride};
  inner_.conv3d(call.in(x), inner_params, call.out(out));
  call.finish();
}

void MirrorBackend::do_depth_to_space_time(const TensorView& x, const Upsample& upsample,
                                           const TensorView& out) {
  Call call(inner_, "depth_to_space_time");
  inner_.depth_to_space_time(call.in(x), upsample, call.out(out));
  call.finish();
}

void MirrorBackend::do_fourier_features(const TensorView& x, std::span<const int> frequencies,
                                        const TensorView& out) {
  Call call(inner_, "fourier_features");
  inner_.fourier_features(call.in(x), frequencies, call.out(out));
  call.finish();
}

void MirrorBackend::do_temporal_attention(const TensorView& qkv, int head_dim,
                                          const TensorView& out) {
  Call call(inner_, "temporal_attention");
  inner_.temporal_attention(call.in(qkv), head_dim, call.out(out));
  call.finish();
}

void MirrorBackend::do_to_rgb8(const TensorView& x, const TensorView& out) {
  Call call(inner_, "to_rgb8");
  inner_.to_rgb8(call.in(x), out);
  call.finish();
}

}  // namespace mochi
