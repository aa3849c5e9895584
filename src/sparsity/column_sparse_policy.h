// Chipmunk's sparse attention and sparse feed-forward layers. Full steps compute dense attention,
// choose the columns of each query group and cache the contribution of the other columns. Sparse
// steps compute attention over the chosen columns and add that contribution.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "mochi/sparsity.h"
#include "sparsity/attention_policy.h"
#include "sparsity/cache_offload.h"
#include "sparsity/column_plan.h"
#include "sparsity/schedule.h"
#include "sparsity/sparse_mlp.h"
#include "sparsity/static_columns.h"

namespace mochi {

// AttentionDelta::follow of DeltaKind::kHalfMerge.
inline constexpr float kHalfMergeFollow = 0.5F;

// A policy holds the state of one generation and cannot be used for another one.
class ColumnSparsePolicy : public AttentionPolicy {
 public:
  ColumnSparsePolicy(SparsityConfig config, const TokenGrid& grid, std::uint64_t seed);

  std::string place_caches(Backend& backend, const CacheSizes& sizes, std::uint64_t available_bytes,
                           const MessageFn& on_message) override;
  void begin_forward(Context& ctx, Branch branch, int step) override;
  void begin_blocks(Context& ctx, Branch branch, int step) override;
  void attend(Context& ctx, AttentionSite site, int step, const AttentionInputs& in,
              const TensorView& out) override;
  std::optional<RecordingKey> recording_key(Branch branch, int step) const override;
  TensorView run_mlp(Context& ctx, AttentionSite site, int step, const MlpInputs& in) override;
  std::span<const std::int32_t> token_order() const override { return order_; }
  TensorView cached_hidden(Branch branch, int step) const override;
  void keep_hidden(Context& ctx, Branch branch, const TensorView& hidden) override;
  void begin_step() override { has_changed_ = false; }
  bool has_changed() const override { return has_changed_; }
  std::vector<PolicyTensor> save(Backend& backend) const override;
  void restore(Backend& backend, const std::vector<PolicyTensor>& tensors) override;

  const SparsityConfig& config() const { return config_; }
  // The columns that sparse steps use at this site, or null before they are chosen. The plan is
  // valid until the next full step.
  const ColumnPlan* find_plan(AttentionSite site) const;
  // Host memory of offloaded caches; 0 if all caches are on the device.
  std::uint64_t host_bytes() const { return offload_ ? offload_->host_bytes() : 0; }

 private:
  // Results of the last full step at one site.
  struct SiteState {
    Tensor lse;  // [heads, tokens] f32
    std::optional<ColumnPlan> plan;
    Tensor cache;          // [tokens, heads·head_dim], or empty if it is offloaded
    Tensor cache_scale;    // [heads, tokens] f32 of an F8_E4M3 cache
    Tensor weight;         // [heads, tokens] f32
    AttentionDelta delta;  // views of the cache, its scale and the weight
  };

  DType find_cache_dtype(Backend& backend) const {
    const bool is_fp8 = config_.attn.cache_dtype == CacheDType::kFp8;
    return is_fp8 ? DType::kF8E4M3 : backend.activation_dtype();
  }
  // Returns true if this step reads the site's plan and cache.
  bool reads_caches(AttentionSite site, int step) const;
  // Allocates a tensor that is still empty.
  void provide(Backend& backend, Branch branch, DType dtype, const Shape& shape, Tensor& tensor);
  // Waits for the caches of the site and starts to fetch those of the next one.
  void fetch_caches(Context& ctx, AttentionSite site, int step);
  void run_full(Context& ctx, AttentionSite site, int step, const AttentionInputs& in,
                const TensorView& out, SiteState& state);
  // Computes dense attention and chooses columns by the previous log-sum-exp.
  void attend_and_choose(Context& ctx, AttentionSite site, int step, const AttentionInputs& in,
                         const AttentionOutputs& to, SiteState& state);
  void cache_delta(Context& ctx, AttentionSite site, DeltaKind kind, const AttentionInputs& in,
                   const AttentionOutputs& dense, SiteState& state);
  // Columns that each group keeps independent of their scores: [groups, words] i32.
  const TensorView& fixed_columns(Backend& backend, std::int64_t num_tokens);
  void restore_one(Backend& backend, const PolicyTensor& saved);
  void restore_site(Backend& backend, AttentionSite site, const std::string& part,
                    const PolicyTensor& saved);
  void restore_plan(Backend& backend, AttentionSite site, const TensorView& host);
  void restore_cache(Backend& backend, AttentionSite site, const TensorView& host);

  SparsityConfig config_;
  TokenGrid grid_;
  std::uint64_t seed_;
  std::vector<std::int32_t> order_;
  std::map<std::pair<Branch, int>, SiteState> sites_;
  std::map<std::int64_t, Tensor> fixed_;   // by the number of text tokens
  std::array<Tensor, 2> hidden_;           // by branch
  std::array<std::uint64_t, 2> epochs_{};  // by branch: RecordingKey::epoch without that of mlp_
  Tensor step_;                            // [1] i32: the step of the last forward pass
  std::optional<int> step_on_device_;
  bool has_changed_ = false;
  int num_layers_ = 0;                     // set if caches are offloaded
  std::unique_ptr<CacheOffload> offload_;  // null if all caches are on the device
  SparseMlp mlp_;
};

}  // namespace mochi
