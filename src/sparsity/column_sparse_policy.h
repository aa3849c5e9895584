// Chipmunk: dense attention at full steps, which choose each query group's columns and cache what
// the others contribute; at all other steps attention over the chosen columns plus that.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "mochi/sparsity.h"
#include "sparsity/attention_policy.h"
#include "sparsity/schedule.h"
#include "sparsity/static_columns.h"

namespace mochi {

// The columns of every head and query group at one site: immutable once chosen.
class ColumnPlan {
 public:
  // Chooses them. `fixed` is of the branch, `seed` of the site and step.
  ColumnPlan(Context& ctx, const AttentionSparsity& attn, const ColumnBits& fixed,
             const TensorView& scores, std::uint64_t seed);
  // From the bits of an earlier plan, on the host. Throws Error when they are none.
  ColumnPlan(Backend& backend, const AttentionSparsity& attn, std::int64_t num_keys,
             const TensorView& bits);

  // The lists, which live as long as the plan and the scratch scope.
  ColumnLists lists(Context& ctx) const;

  const TensorView& bits() const { return bits_.view(); }
  double kept_fraction() const;  // of all columns of all heads and groups
  std::size_t size_bytes() const;

 private:
  // The offsets of lists of these lengths, and the lists if they are not to stay packed.
  void index(Backend& backend, const AttentionSparsity& attn,
             const std::vector<std::int32_t>& counts);

  Tensor bits_;     // [heads, groups, words] i32
  Tensor offsets_;  // [heads·groups + 1] i32
  Tensor columns_;  // [total] i32, or empty: expanded when used
  std::int64_t total_ = 0, num_keys_ = 0, group_size_ = 0;
};

// State of one generation: make a new one for the next.
class ColumnSparsePolicy final : public AttentionPolicy {
 public:
  ColumnSparsePolicy(SparsityConfig config, const TokenGrid& grid, std::uint64_t seed);

  void attend(Context& ctx, AttentionSite site, int step, const AttentionInputs& in,
              const TensorView& out) override;
  std::span<const std::int32_t> token_order() const override { return order_; }
  TensorView cached_hidden(Branch branch, int step) const override;
  void keep_hidden(Context& ctx, Branch branch, const TensorView& hidden) override;
  std::vector<PolicyTensor> save(Backend& backend) const override;
  void restore(Backend& backend, const std::vector<PolicyTensor>& tensors) override;

  const SparsityConfig& config() const { return config_; }

 private:
  // What the last full step left at one site.
  struct SiteState {
    Tensor lse;  // [heads, tokens] f32
    std::optional<ColumnPlan> plan;
    Tensor cache;   // [tokens, heads·head_dim]; with `weight` the delta
    Tensor weight;  // [heads, tokens] f32
    AttentionDelta delta;
  };

  void run_full(Context& ctx, AttentionSite site, int step, const AttentionInputs& in,
                const TensorView& out, SiteState& state);
  // Dense attention that also scores the columns, when there is a former lse.
  void attend_and_choose(Context& ctx, AttentionSite site, int step, const AttentionInputs& in,
                         const AttentionOutputs& to, SiteState& state);
  void cache_delta(Context& ctx, DeltaKind kind, const AttentionInputs& in,
                   const AttentionOutputs& dense, SiteState& state) const;
  const ColumnBits& fixed_columns(std::int64_t num_tokens);
  void restore_one(Backend& backend, const PolicyTensor& saved);
  void restore_site(Backend& backend, SiteState& state, const std::string& part,
                    const PolicyTensor& saved) const;

  SparsityConfig config_;
  TokenGrid grid_;
  std::uint64_t seed_;
  std::vector<std::int32_t> order_;
  std::map<std::pair<Branch, int>, SiteState> sites_;
  std::map<std::int64_t, ColumnBits> fixed_;  // by the number of text tokens
  std::array<Tensor, 2> hidden_;              // of each branch
};

}  // namespace mochi
