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

#include "dit/block_policy.h"
#include "mochi/sparsity.h"
#include "sparsity/cache_offload.h"
#include "sparsity/column_plan.h"
#include "sparsity/generation_state.h"
#include "sparsity/schedule.h"
#include "sparsity/sparse_mlp.h"
#include "sparsity/static_columns.h"

namespace mochi {

// AttentionDelta::follow of DeltaKind::kHalfMerge.
inline constexpr float kHalfMergeFollow = 0.5F;

// A policy holds the state of one generation and cannot be used for another one. allocate() comes
// before everything else.
class ColumnSparsePolicy : public BlockPolicy, public GenerationState {
 public:
  ColumnSparsePolicy(SparsityConfig config, const TokenGrid& grid, std::uint64_t seed);

  std::span<const std::int32_t> token_order() const override { return order_; }
  void begin_forward(Context& ctx, Branch branch, int step) override;
  std::optional<GraphKey> graph_key(Branch branch, int step) const override;
  void begin_blocks(Context& ctx, Branch branch, int step) override;
  void end_blocks(Context& ctx) override;
  void attend(Context& ctx, Site site, int step, const AttentionInputs& in,
              const TensorView& out) override;
  TensorView run_mlp(Context& ctx, Site site, int step, const MlpInputs& in) override;

  std::string allocate(Backend& backend, const StateSizes& sizes, std::uint64_t available_bytes,
                       const MessageFn& on_message) override;
  bool is_allocated() const { return static_cast<bool>(step_); }
  void begin_step() override { has_changed_ = false; }
  bool has_changed() const override { return has_changed_; }
  std::vector<StateTensor> save(Backend& backend) const override;
  void restore(Backend& backend, const std::vector<StateTensor>& tensors) override;

  const SparsityConfig& config() const { return config_; }
  // The columns that sparse steps use at this site, or null before they are chosen. The plan is
  // valid until the next full step.
  const ColumnPlan* find_plan(Site site) const;
  // Host memory of offloaded caches; 0 if all caches are on the device.
  std::uint64_t host_bytes() const { return offload_ ? offload_->host_bytes() : 0; }

 private:
  // The memory of one site, and what it holds since the last full step.
  struct SiteState {
    Tensor lse;  // [heads, tokens] f32
    bool has_lse = false;
    std::unique_ptr<ColumnPlan> plan;
    bool has_plan = false;
    Tensor cache;          // [tokens, heads·head_dim], or empty if it is offloaded or not needed
    Tensor cache_scale;    // [heads, tokens] f32 of an F8_E4M3 cache
    Tensor weight;         // [heads, tokens] f32, or empty if no delta has a weight
    AttentionDelta delta;  // views of the cache, its scale and the weight
  };

  // ---- memory ----
  DType find_cache_dtype(const Backend& backend) const {
    const bool is_fp8 = config_.attn.cache_dtype == CacheDType::kFp8;
    return is_fp8 ? DType::kF8E4M3 : backend.activation_dtype();
  }
  // Decides where the caches are and makes offload_ if they are on the host; returns a line.
  std::string place_caches(Backend& backend, const StateSizes& sizes, std::uint64_t available_bytes,
                           const MessageFn& on_message);
  SiteState allocate_site(Backend& backend, const StateSizes& sizes, Site site) const;
  SiteState& state_of(Site site);

  // ---- steps ----
  // Returns true if this step reads the site's plan and cache.
  bool reads_caches(Site site, int step) const;
  // Waits for the caches of the site and starts to fetch those of the next one.
  void fetch_caches(Context& ctx, Site site, int step);
  void run_full(Context& ctx, Site site, int step, const AttentionInputs& in, const TensorView& out,
                SiteState& state);
  // Computes dense attention and chooses columns by the previous log-sum-exp.
  void attend_and_choose(Context& ctx, Site site, int step, const AttentionInputs& in,
                         const AttentionOutputs& to, SiteState& state);
  void cache_delta(Context& ctx, Site site, DeltaKind kind, const AttentionInputs& in,
                   const AttentionOutputs& dense, SiteState& state);
  // Sets the views of a site's delta of this kind.
  void describe_delta(Site site, DeltaKind kind, SiteState& state) const;

  // ---- restoring ----
  void restore_one(Backend& backend, const StateTensor& saved);
  void restore_site(Backend& backend, Site site, const std::string& part, const StateTensor& saved);
  void restore_plan(Backend& backend, Site site, const TensorView& host);
  void restore_cache(Backend& backend, Site site, const TensorView& host);

  SparsityConfig config_;
  TokenGrid grid_;
  std::uint64_t seed_;
  std::vector<std::int32_t> order_;
  std::map<std::pair<Branch, int>, SiteState> sites_;
  std::array<Tensor, 2> fixed_;  // by branch: columns that each group keeps, [groups, words] i32
  std::array<std::uint32_t, 2> versions_{};  // by branch: GraphKey::version
  Tensor step_;                              // [1] i32: the step of the last forward pass
  std::optional<int> step_on_device_;
  bool has_changed_ = false;
  int num_layers_ = 0;
  std::unique_ptr<CacheOffload> offload_;  // null if all caches are on the device
  SparseMlp mlp_;
};

}  // namespace mochi
