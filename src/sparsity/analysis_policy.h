// A ColumnSparsePolicy that is watched: the same outputs, and for every site what it attended to
// and how far each delta would have been from dense attention.
#pragma once

#include <functional>
#include <map>

#include "mochi/analysis.h"
#include "sparsity/column_sparse_policy.h"

namespace mochi {

using SiteFn = std::function<void(const SiteReport&)>;

// A sparse step costs dense attention, attention over the columns, and that with each delta; a full
// step costs the full step of up to three policies more.
class AnalysisPolicy final : public ColumnSparsePolicy {
 public:
  // `on_site` is called after each attend(), in its thread.
  AnalysisPolicy(const SparsityConfig& config, const TokenGrid& grid, std::uint64_t seed,
                 SiteFn on_site);

  void begin_forward(Context& ctx, Branch branch, int step) override;
  void attend(Context& ctx, AttentionSite site, int step, const AttentionInputs& in,
              const TensorView& out) override;
  // Every site is looked at at every step.
  std::string place_caches(Backend& /*backend*/, const CacheSizes& /*sizes*/,
                           std::uint64_t /*available_bytes*/,
                           const MessageFn& /*on_message*/) override {
    return {};
  }
  std::optional<RecordingKey> recording_key(Branch /*branch*/, int /*step*/) const override {
    return std::nullopt;
  }

 private:
  void measure(Context& ctx, AttentionSite site, int step, const AttentionInputs& in,
               const TensorView& out, SiteReport& report);

  SiteFn on_site_;
  // The same plans with the deltas that are not the configured one. Without a delta there is
  // nothing to keep: that is measured from the columns alone.
  std::map<DeltaKind, ColumnSparsePolicy> shadows_;
};

}  // namespace mochi
