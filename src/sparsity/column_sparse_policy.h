// Chipmunk: dense attention at full steps, which choose each query group's columns and cache what
// the others contribute; at all other steps attention over the chosen columns plus that. And sparse
// feed-forward layers.
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

// Of AttentionDelta, with DeltaKind::kHalfMerge.
inline constexpr float kHalfMergeFollow = 0.5F;

// State of one generation: make a new one for the next.
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
  // The columns that sparse steps use at this site; null before they are chosen. It lives until the
  // next full step.
  const ColumnPlan* find_plan(AttentionSite site) const;
  // Of caches that do not stay on the device; 0: they do.
  std::uint64_t host_bytes() const { return offload_ ? offload_->host_bytes() : 0; }

 private:
  // What the last full step left at one site.
  struct SiteState {
    Tensor lse;  // [heads, tokens] f32
    std::optional<ColumnPlan> plan;
    Tensor cache;  // [tokens, heads·head_dim], or empty: offloaded; with what follows the delta
    Tensor cache_scale;  // [heads, tokens] f32 of an F8_E4M3 cache
    Tensor weight;       // [heads, tokens] f32
    AttentionDelta delta;
  };

  DType find_cache_dtype(Backend& backend) const {
    const bool is_fp8 = config_.attn.cache_dtype == CacheDType::kFp8;
    return is_fp8 ? DType::kF8E4M3 : backend.activation_dtype();
  }
  // Whether the site's plan and cache are used at this step.
  bool reads_caches(AttentionSite site, int step) const;
  // Makes a tensor that is not there yet.
  void provide(Backend& backend, Branch branch, DType dtype, const Shape& shape, Tensor& tensor);
  // Brings what the site needs and begins to bring what the next one will.
  void fetch_caches(Context& ctx, AttentionSite site, int step);
  void run_full(Context& ctx, AttentionSite site, int step, const AttentionInputs& in,
                const TensorView& out, SiteState& state);
  // Dense attention that also scores the columns, when there is a former lse.
  void attend_and_choose(Context& ctx, AttentionSite site, int step, const AttentionInputs& in,
                         const AttentionOutputs& to, SiteState& state);
  void cache_delta(Context& ctx, AttentionSite site, DeltaKind kind, const AttentionInputs& in,
                   const AttentionOutputs& dense, SiteState& state);
  // [groups, words] i32: the columns that every group keeps anyway.
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
  std::array<Tensor, 2> hidden_;           // of each branch
  std::array<std::uint64_t, 2> epochs_{};  // of each branch: as RecordingKey's, without the MLPs
  Tensor step_;                            // [1] i32: that of the last forward
  std::optional<int> step_on_device_;
  bool has_changed_ = false;
  int num_layers_ = 0;                     // where caches are offloaded
  std::unique_ptr<CacheOffload> offload_;  // null: all caches stay on the device
  SparseMlp mlp_;
};

}  // namespace mochi
