// A ColumnSparsePolicy that also measures: it computes equal outputs and reports, for every site,
// what it attended to and how far each delta is from dense attention.
#pragma once

#include <functional>
#include <map>

#include "mochi/analysis.h"
#include "sparsity/column_sparse_policy.h"

namespace mochi {

using SiteFn = std::function<void(const SiteReport&)>;

// A sparse step additionally costs dense attention and attention over the columns with each delta.
// A full step additionally costs the full steps of up to three more policies.
class AnalysisPolicy final : public ColumnSparsePolicy {
 public:
  // `on_site` is called after each attend(), by the same thread.
  AnalysisPolicy(const SparsityConfig& config, const TokenGrid& grid, std::uint64_t seed,
                 SiteFn on_site);

  void begin_forward(Context& ctx, Branch branch, int step) override;
  void attend(Context& ctx, Site site, int step, const AttentionInputs& in,
              const TensorView& out) override;
  // Every site is read at every step, so all caches stay on the device.
  std::string allocate(Backend& backend, const StateSizes& sizes, std::uint64_t available_bytes,
                       const MessageFn& on_message) override;
  std::optional<GraphKey> graph_key(Branch /*branch*/, int /*step*/) const override {
    return std::nullopt;
  }

 private:
  void measure(Context& ctx, Site site, int step, const AttentionInputs& in, const TensorView& out,
               SiteReport& report);

  SiteFn on_site_;
  // Policies with equal plans and the deltas that are not configured. DeltaKind::kNone caches
  // nothing and needs no separate policy.
  std::map<DeltaKind, ColumnSparsePolicy> shadows_;
};

}  // namespace mochi
