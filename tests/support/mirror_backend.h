// A backend with the interface of a CPU backend that computes on another one, so that tests with
// host tensors run on a GPU unchanged.
#pragma once

#include "backend/backend.h"

namespace mochi {

// Copies every tensor of a call to `inner` before the call, outputs too, so that the test sees what
// an operation adds to and what it leaves alone; copies outputs back afterwards. Activations and
// matrices are converted to the inner activation dtype, rounded to nearest even; other tensors keep
// their dtypes. Throws Error if an operation writes to a tensor that it should only read.
class MirrorBackend : public Backend {
 public:
  explicit MirrorBackend(Backend& inner) : inner_(inner) {}

  Device device() const override { return Device::kCpu; }
  Allocator& allocator() override { return host_allocator(); }
  DType activation_dtype() const override { return DType::kF32; }
  DType preferred_matrix_dtype() const override { return inner_.activation_dtype(); }
  std::string device_name() const override { return inner_.device_name(); }
  ChunkSizes preferred_chunks() const override { return {}; }
  DeviceMemory memory() const override { return {}; }
  void restart_peak() override {}
  Allocator& staging_allocator() override { return host_allocator(); }
  std::unique_ptr<WeightLoader> make_weight_loader() override { return nullptr; }
  std::unique_ptr<CapturedGraph> capture(const std::function<void()>& fn) override {
    fn();
    return nullptr;
  }

 private:
  void do_synchronize() override { inner_.synchronize(); }
  void do_upload(const TensorView& host, const TensorView& target) override;
  void do_download(const TensorView& source, const TensorView& host) override;
  void do_fill_normal(const NormalFill& fill, const TensorView& target) override;
  void do_widen(const MatrixView& matrix, const TensorView& out) override;
  Tensor& dense_memory() override { return dense_memory_; }
  void do_prefetch(int slot, const TensorView& host, const TensorView& target) override;
  void do_await_prefetch(int /*slot*/) override {}
  void do_write_back(int slot, const TensorView& source, const TensorView& host) override;
  void do_await_write_back(int /*slot*/) override {}
  void do_copy(const TensorView& source, const TensorView& target) override;
  void do_add(const TensorView& a, const TensorView& b, const TensorView& out) override;
  void do_silu(const TensorView& x, const TensorView& out) override;
  void do_mean_rows(const TensorView& x, const TensorView& out, std::int64_t block_size) override;
  void do_transpose(const TensorView& x, const TensorView& out) override;
  void do_linear(const TensorView& x, const TensorView& weight, const TensorView& bias,
                 const TensorView& out, const LinearOptions& options) override;
  void do_gated_activation(const TensorView& x, Activation activation,
                           const TensorView& out) override;
  void do_gated_linear(const TensorView& x, const TensorView& weight, Activation activation,
                       Arena& scratch, const TensorView& out) override;
  void do_attention(const AttentionInputs& in, const AttentionOutputs& to) override;
  void do_embedding(std::span<const std::int32_t> ids, const TensorView& table,
                    const TensorView& out) override;
  void do_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                   const TensorView& out) override;
  void do_patchify(const TensorView& latents, int patch_size, const TensorView& out) override;
  void do_unpatchify(const TensorView& tokens, int patch_size, const TensorView& latents) override;
  void do_norm_modulate(const TensorView& x, const TensorView& scale, float eps,
                        const TensorView& out) override;
  void do_layer_norm_modulate(const TensorView& x, const TensorView& shift, const TensorView& scale,
                              float eps, const TensorView& out) override;
  void do_qk_norm_rope(const TensorView& qkv, const QkNormRope& params, std::int64_t offset,
                       const TensorView& q, const TensorView& k, const TensorView& v) override;
  void do_qkv_linear(const TensorView& x, const TensorView& weight, const QkNormRope& params,
                     std::int64_t offset, Arena& scratch, const TensorView& q, const TensorView& k,
                     const TensorView& v) override;
  void do_gated_residual(const TensorView& r, const GatedResidual& params,
                         const TensorView& x) override;
  void do_attention_with_column_sums(const AttentionInputs& in, const ColumnSums& scores,
                                     const AttentionOutputs& to) override;
  void do_column_sparse_attention(const AttentionInputs& in, const ColumnLists& columns,
                                  const AttentionDelta& delta, const AttentionOutputs& to) override;
  void do_find_delta(const AttentionOutputs& dense, const AttentionOutputs& sparse,
                     const AttentionDelta& delta) override;
  void do_select_columns(const ColumnChoice& choice, const TensorView& plan,
                         const TensorView& offsets) override;
  void do_expand_columns(const TensorView& plan, const ColumnLists& columns) override;
  void do_find_movement(const TensorView& means, const TensorView& former,
                        const TensorView& scores) override;
  void do_column_sparse_mlp(const TensorView& x, const TensorView& w1, const TensorView& w2_rows,
                            const ColumnLists& columns, const MlpCache& cache) override;
  void do_gather_rows(const TensorView& x, const TensorView& indices,
                      const TensorView& out) override;
  void do_guided_euler(const TensorView& v_cond, const TensorView& v_null, float cfg, float dsigma,
                       const TensorView& z) override;
  void do_weighted_sum(const TensorView& a, float weight_a, const TensorView& b, float weight_b,
                       const TensorView& out) override;
  void do_difference_norms(const TensorView& a, const TensorView& b, Arena& scratch,
                           const TensorView& out) override;
  void do_latents_to_channels_last(const TensorView& latents, const TensorView& scale,
                                   const TensorView& shift, const TensorView& out) override;
  void do_channels_last_to_latents(const TensorView& x, const TensorView& scale,
                                   const TensorView& shift, const TensorView& out) override;
  void do_group_norm(const TensorView& x, const GroupNorm& params, const TensorView& out) override;
  void do_conv3d(const TensorView& x, const Conv3d& params, const TensorView& out) override;
  void do_depth_to_space_time(const TensorView& x, const Upsample& upsample,
                              const TensorView& out) override;
  void do_fourier_features(const TensorView& x, std::span<const int> frequencies,
                           const TensorView& out) override;
  void do_temporal_attention(const TensorView& qkv, int head_dim, const TensorView& out) override;
  void do_to_rgb8(const TensorView& x, const TensorView& out) override;

  Backend& inner_;
  Tensor dense_memory_;
};

}  // namespace mochi
