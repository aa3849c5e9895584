// Sparse feed-forward layers: a full step computes all of one and keeps its activations and its
// output. At the steps that follow, each block of tokens computes anew the hidden columns that
// moved most, and what that changes is added to the output.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mochi/sparsity.h"
#include "sparsity/attention_policy.h"
#include "sparsity/column_plan.h"

namespace mochi {

// State of one generation: make a new one for the next.
class SparseMlp {
 public:
  SparseMlp(const MlpSparsity& mlp, std::int64_t num_tokens, std::uint64_t seed)
      : mlp_(mlp), num_tokens_(num_tokens), seed_(seed) {}

  // As AttentionPolicy::run_mlp.
  TensorView run(Context& ctx, AttentionSite site, int step, const MlpInputs& in);

  // As AttentionPolicy::save. A site's activations must be restored before its plan.
  void save(Backend& backend, std::vector<PolicyTensor>& saved) const;
  void restore(Backend& backend, AttentionSite site, const std::string& part,
               const TensorView& host);
  void clear() { sites_.clear(); }

 private:
  struct SiteState {
    Tensor activations;  // [tokens, hidden]
    Tensor out;          // [tokens, width]
    Tensor means;        // [blocks, 2·hidden] of gates and values
    std::optional<ColumnPlan> plan;
    int chosen_at = 0;  // step of the plan
  };

  std::int64_t num_blocks() const { return (num_tokens_ + mlp_.mbm - 1) / mlp_.mbm; }
  void run_full(Context& ctx, const MlpInputs& in, SiteState& state) const;
  void choose(Context& ctx, AttentionSite site, int step, const MlpInputs& in, SiteState& state);
  // means [blocks, 2·hidden] of gates and values: those of the inputs, times w1.
  void find_means(Context& ctx, const MlpInputs& in, const TensorView& means) const;
  const Tensor& w2_rows(Backend& backend, int layer, const TensorView& w2);

  MlpSparsity mlp_;
  std::int64_t num_tokens_;
  std::uint64_t seed_;
  std::map<std::pair<Branch, int>, SiteState> sites_;
  Tensor no_columns_;              // [blocks, words] i32: none is computed whatever its score
  std::map<int, Tensor> w2_rows_;  // by layer: w2 transposed, so that a column of it is a row
};

}  // namespace mochi
