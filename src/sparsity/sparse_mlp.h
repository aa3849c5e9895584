// Sparse feed-forward layers: a full step computes all of one and keeps its activations and its
// output. At the steps that follow, each block of tokens computes anew the hidden columns that
// moved most, and what that changes is added to the output.
#pragma once

#include <array>
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

  // What a forward does at every layer that is not dense.
  enum class Work : std::uint8_t { kDense, kFull, kChoose, kUpdate };

  // As of AttentionPolicy.
  void begin_forward(Branch branch, int step);
  Work work(Branch branch) const { return branches_[static_cast<std::size_t>(branch)].work; }
  std::uint64_t epoch() const { return epoch_; }
  // As AttentionPolicy::run_mlp; step [1] i32 on the device.
  TensorView run(Context& ctx, AttentionSite site, const TensorView& step, const MlpInputs& in);

  // A site's activations must be restored before its plan.
  void save(Backend& backend, std::vector<PolicyTensor>& saved) const;
  void restore(Backend& backend, AttentionSite site, const std::string& part,
               const TensorView& host);
  void clear() {
    sites_.clear();
    branches_ = {};
  }

 private:
  struct BranchState {
    Work work = Work::kDense;  // of this forward
    bool has_activations = false;
    std::optional<int> chosen_at = {};  // step of the plans; none since a full step
  };
  struct SiteState {
    Tensor activations;  // [tokens, hidden]
    Tensor out;          // [tokens, width]
    Tensor means;        // [blocks, 2·hidden] of gates and values
    std::optional<ColumnPlan> plan;
  };

  std::int64_t num_blocks() const { return (num_tokens_ + mlp_.mbm - 1) / mlp_.mbm; }
  void run_full(Context& ctx, const MlpInputs& in, SiteState& state);
  void choose(Context& ctx, AttentionSite site, const TensorView& step, const MlpInputs& in,
              SiteState& state);
  // means [blocks, 2·hidden] of gates and values: those of the inputs, times w1.
  void find_means(Context& ctx, const MlpInputs& in, const TensorView& means) const;
  const Tensor& w2_rows(Backend& backend, int layer, const TensorView& w2);

  MlpSparsity mlp_;
  std::int64_t num_tokens_;
  std::uint64_t seed_;
  std::array<BranchState, 2> branches_{};
  std::map<std::pair<Branch, int>, SiteState> sites_;
  std::uint64_t epoch_ = 0;        // how often memory was taken
  Tensor no_columns_;              // [blocks, words] i32: none is computed whatever its score
  std::map<int, Tensor> w2_rows_;  // by layer: w2 transposed, so that a column of it is a row
};

}  // namespace mochi
