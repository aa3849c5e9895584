#include "bench/profiling_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace mochi::bench {

Cost ProfilingBackend::total_cost() const {
  Cost cost;
  for (const OpTotals& op : totals_) cost += op.cost;
  return cost;
}

template <typename Run>
void ProfilingBackend::record(const std::string& name, OpKind kind, const Cost& cost,
                              const Run& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  if (is_timing_) inner_.synchronize();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  auto found = std::ranges::find(totals_, name, &OpTotals::name);
  if (found == totals_.end()) {
    found = totals_.insert(found, OpTotals{.name = name, .kind = kind, .cost = {}});
  }
  ++found->num_calls;
  if (is_timing_) found->seconds += taken.count();
  found->cost += cost;
}

template <typename Run>
void ProfilingBackend::record(const std::string& name, const Cost& cost, const Run& run) {
  record(name, OpKind::kOther, cost, run);
}

void ProfilingBackend::do_upload(const TensorView& host, const TensorView& target) {
  record("upload", traffic({target}), [&] { inner_.upload(host, target); });
}

void ProfilingBackend::do_download(const TensorView& source, const TensorView& host) {
  record("download", traffic({source}), [&] { inner_.download(source, host); });
}

void ProfilingBackend::do_fill_normal(const NormalFill& fill, const TensorView& target) {
  record("fill_normal", traffic({target}), [&] { inner_.fill_normal(fill, target); });
}

void ProfilingBackend::do_await_prefetch(int slot) {
  record("await_prefetch", {}, [&] { inner_.await_prefetch(slot); });
}

void ProfilingBackend::do_await_write_back(int slot) {
  record("await_write_back", {}, [&] { inner_.await_write_back(slot); });
}

void ProfilingBackend::do_copy(const TensorView& source, const TensorView& target) {
  record("copy", traffic({source, target}), [&] { inner_.copy(source, target); });
}

void ProfilingBackend::do_add(const TensorView& a, const TensorView& b, const TensorView& out) {
  record("add", traffic({a, b, out}), [&] { inner_.add(a, b, out); });
}

void ProfilingBackend::do_silu(const TensorView& x, const TensorView& out) {
  record("silu", traffic({x, out}), [&] { inner_.silu(x, out); });
}

void ProfilingBackend::do_mean_rows(const TensorView& x, const TensorView& out,
                                    std::int64_t block_size) {
  // The front has put the number of rows in the place of 0, which x without rows keeps.
  record("mean_rows", traffic({x, out}), [&] { inner_.mean_rows(x, out, block_size); });
}

void ProfilingBackend::do_transpose(const TensorView& x, const TensorView& out) {
  record("transpose", traffic({x, out}), [&] { inner_.transpose(x, out); });
}

void ProfilingBackend::do_widen(const MatrixView& matrix, const TensorView& out) {
  record(fmt::format("widen {}", storage_type_name(matrix.type())), traffic({matrix.values(), out}),
         [&] { inner_.widen(matrix, out); });
}

void ProfilingBackend::do_linear(const TensorView& x, const TensorView& weight,
                                 const TensorView& bias, const TensorView& out,
                                 const LinearOptions& options) {
  record(fmt::format("linear {}→{}", weight.dim(1), weight.dim(0)), OpKind::kProduct,
         linear_cost(x, weight, bias, out, options),
         [&] { inner_.linear(x, weight, bias, out, options); });
}

void ProfilingBackend::do_gated_activation(const TensorView& x, Activation activation,
                                           const TensorView& out) {
  record("gated_activation", traffic({x, out}),
         [&] { inner_.gated_activation(x, activation, out); });
}

void ProfilingBackend::do_gated_linear(const TensorView& x, const TensorView& weight,
                                       Activation activation, Arena& scratch,
                                       const TensorView& out) {
  record(fmt::format("gated_linear {}→{}", weight.dim(1), weight.dim(0)), OpKind::kProduct,
         fused_linear_cost(x, weight, {out}),
         [&] { inner_.gated_linear(x, weight, activation, scratch, out); });
}

void ProfilingBackend::do_attention(const AttentionInputs& in, const AttentionOutputs& to) {
  record("attention", OpKind::kAttention, attention_cost(in, to),
         [&] { inner_.attention(in, to); });
}

void ProfilingBackend::do_embedding(std::span<const std::int32_t> ids, const TensorView& table,
                                    const TensorView& out) {
  record("embedding", embedding_cost(out), [&] { inner_.embedding(ids, table, out); });
}

void ProfilingBackend::do_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                                   const TensorView& out) {
  record("rms_norm", traffic({x, weight, out}), [&] { inner_.rms_norm(x, weight, eps, out); });
}

void ProfilingBackend::do_patchify(const TensorView& latents, int patch_size,
                                   const TensorView& out) {
  record("patchify", traffic({latents, out}), [&] { inner_.patchify(latents, patch_size, out); });
}

void ProfilingBackend::do_unpatchify(const TensorView& tokens, int patch_size,
                                     const TensorView& latents) {
  record("unpatchify", traffic({tokens, latents}),
         [&] { inner_.unpatchify(tokens, patch_size, latents); });
}

void ProfilingBackend::do_norm_modulate(const TensorView& x, const TensorView& scale, float eps,
                                        const TensorView& out) {
  record("norm_modulate", traffic({x, scale, out}),
         [&] { inner_.norm_modulate(x, scale, eps, out); });
}

void ProfilingBackend::do_layer_norm_modulate(const TensorView& x, const TensorView& shift,
                                              const TensorView& scale, float eps,
                                              const TensorView& out) {
  record("layer_norm_modulate", traffic({x, shift, scale, out}),
         [&] { inner_.layer_norm_modulate(x, shift, scale, eps, out); });
}

void ProfilingBackend::do_qk_norm_rope(const TensorView& qkv, const QkNormRope& params,
                                       std::int64_t offset, const TensorView& q,
                                       const TensorView& k, const TensorView& v) {
  record("qk_norm_rope", traffic({qkv, qkv, params.cos, params.sin}),
         [&] { inner_.qk_norm_rope(qkv, params, offset, q, k, v); });
}

void ProfilingBackend::do_qkv_linear(const TensorView& x, const TensorView& weight,
                                     const QkNormRope& params, std::int64_t offset, Arena& scratch,
                                     const TensorView& q, const TensorView& k,
                                     const TensorView& v) {
  // Only these tokens' part of q, k and v is written.
  const std::int64_t row_bytes = weight.dim(0) * static_cast<std::int64_t>(dtype_bytes(x.dtype()));
  Cost cost = fused_linear_cost(x, weight, {params.cos, params.sin});
  cost.bytes += static_cast<double>(x.dim(0) * row_bytes);
  record(fmt::format("qkv_linear {}→{}", weight.dim(1), weight.dim(0)), OpKind::kProduct, cost,
         [&] { inner_.qkv_linear(x, weight, params, offset, scratch, q, k, v); });
}

void ProfilingBackend::do_gated_residual(const TensorView& r, const GatedResidual& params,
                                         const TensorView& x) {
  record("gated_residual", traffic({r, params.gate, x, x, params.next_out}),
         [&] { inner_.gated_residual(r, params, x); });
}

void ProfilingBackend::do_attention_with_column_sums(const AttentionInputs& in,
                                                     const ColumnSums& scores,
                                                     const AttentionOutputs& to) {
  record("attention_with_column_sums", OpKind::kAttention, column_sums_cost(in, scores, to),
         [&] { inner_.attention_with_column_sums(in, scores, to); });
}

// There is room for more columns than are in the lists.
ColumnLists ProfilingBackend::filled_part(const ColumnLists& lists) {
  ColumnLists filled = lists;
  const std::int64_t num_lists = lists.offsets.dim(0) - 1;
  std::int32_t total = 0;
  inner_.download(lists.offsets.rows(num_lists, num_lists + 1),
                  TensorView(&total, DType::kI32, {1}));
  filled.columns = lists.columns.rows(0, total);
  return filled;
}

void ProfilingBackend::do_column_sparse_attention(const AttentionInputs& in,
                                                  const ColumnLists& columns,
                                                  const AttentionDelta& delta,
                                                  const AttentionOutputs& to) {
  record("column_sparse_attention", OpKind::kAttention,
         column_attention_cost(in, filled_part(columns), delta, to),
         [&] { inner_.column_sparse_attention(in, columns, delta, to); });
}

void ProfilingBackend::do_find_delta(const AttentionOutputs& dense, const AttentionOutputs& sparse,
                                     const AttentionDelta& delta) {
  record("find_delta",
         traffic({dense.out, dense.lse, sparse.out, sparse.lse, delta.cache, delta.cache_scale,
                  delta.weight}),
         [&] { inner_.find_delta(dense, sparse, delta); });
}

void ProfilingBackend::do_select_columns(const ColumnChoice& choice, const TensorView& plan,
                                         const TensorView& offsets) {
  record("select_columns", traffic({choice.scores, choice.fixed, plan, offsets}),
         [&] { inner_.select_columns(choice, plan, offsets); });
}

void ProfilingBackend::do_expand_columns(const TensorView& plan, const ColumnLists& columns) {
  const ColumnLists filled = filled_part(columns);
  record("expand_columns", traffic({plan, filled.offsets, filled.columns}),
         [&] { inner_.expand_columns(plan, columns); });
}

void ProfilingBackend::do_find_movement(const TensorView& means, const TensorView& former,
                                        const TensorView& scores) {
  record("find_movement", traffic({means, former, scores}),
         [&] { inner_.find_movement(means, former, scores); });
}

// The amount of work is in lists on the device, so only the time is measured.
void ProfilingBackend::do_column_sparse_mlp(const TensorView& x, const TensorView& w1,
                                            const TensorView& w2_rows, const ColumnLists& columns,
                                            const MlpCache& cache) {
  record("column_sparse_mlp", OpKind::kProduct, {},
         [&] { inner_.column_sparse_mlp(x, w1, w2_rows, columns, cache); });
}

void ProfilingBackend::do_gather_rows(const TensorView& x, const TensorView& indices,
                                      const TensorView& out) {
  record("gather_rows", traffic({out, indices, out}), [&] { inner_.gather_rows(x, indices, out); });
}

void ProfilingBackend::do_guided_euler(const TensorView& v_cond, const TensorView& v_null,
                                       float cfg, float dsigma, const TensorView& z) {
  record("guided_euler", traffic({v_cond, v_null, z, z}),
         [&] { inner_.guided_euler(v_cond, v_null, cfg, dsigma, z); });
}

void ProfilingBackend::do_weighted_sum(const TensorView& a, float weight_a, const TensorView& b,
                                       float weight_b, const TensorView& out) {
  record("weighted_sum", traffic({a, b, out}),
         [&] { inner_.weighted_sum(a, weight_a, b, weight_b, out); });
}

void ProfilingBackend::do_difference_norms(const TensorView& a, const TensorView& b, Arena& scratch,
                                           const TensorView& out) {
  record("difference_norms", traffic({a, b}), [&] { inner_.difference_norms(a, b, scratch, out); });
}

void ProfilingBackend::do_latents_to_channels_last(const TensorView& latents,
                                                   const TensorView& scale, const TensorView& shift,
                                                   const TensorView& out) {
  record("latents_to_channels_last", traffic({latents, out}),
         [&] { inner_.latents_to_channels_last(latents, scale, shift, out); });
}

void ProfilingBackend::do_channels_last_to_latents(const TensorView& x, const TensorView& scale,
                                                   const TensorView& shift, const TensorView& out) {
  record("channels_last_to_latents", traffic({x, out}),
         [&] { inner_.channels_last_to_latents(x, scale, shift, out); });
}

void ProfilingBackend::do_group_norm(const TensorView& x, const GroupNorm& params,
                                     const TensorView& out) {
  record("group_norm", traffic({x, out}), [&] { inner_.group_norm(x, params, out); });
}

void ProfilingBackend::do_conv3d(const TensorView& x, const Conv3d& params, const TensorView& out) {
  record(fmt::format("conv3d {}→{}", x.dim(3), out.dim(3)), OpKind::kConvolution,
         conv3d_cost(x, params, out), [&] { inner_.conv3d(x, params, out); });
}

void ProfilingBackend::do_depth_to_space_time(const TensorView& x, const Upsample& upsample,
                                              const TensorView& out) {
  record("depth_to_space_time", traffic({x, out}),
         [&] { inner_.depth_to_space_time(x, upsample, out); });
}

void ProfilingBackend::do_fourier_features(const TensorView& x, std::span<const int> frequencies,
                                           const TensorView& out) {
  record("fourier_features", traffic({x, out}),
         [&] { inner_.fourier_features(x, frequencies, out); });
}

void ProfilingBackend::do_temporal_attention(const TensorView& qkv, int head_dim,
                                             const TensorView& out) {
  record("temporal_attention", traffic({qkv, out}),
         [&] { inner_.temporal_attention(qkv, head_dim, out); });
}

void ProfilingBackend::do_to_rgb8(const TensorView& x, const TensorView& out) {
  record("to_rgb8", traffic({x, out}), [&] { inner_.to_rgb8(x, out); });
}

}  // namespace mochi::bench
