// Sparse feed-forward layers. A full step computes the whole layer and stores its activations and
// its output. At the steps that follow, each block of tokens recomputes the hidden columns that
// changed most and adds the change to the output.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dit/block_policy.h"
#include "mochi/sparsity.h"
#include "sparsity/column_plan.h"
#include "sparsity/generation_state.h"

namespace mochi {

// Holds the state of one generation and cannot be used for another one.
class SparseMlp {
 public:
  SparseMlp(const MlpSparsity& mlp, std::int64_t num_tokens, std::uint64_t seed)
      : mlp_(mlp), num_tokens_(num_tokens), seed_(seed) {}

  // Work of a forward pass in every layer that is not always dense.
  enum class Work : std::uint8_t { kDense, kFull, kChoose, kUpdate };

  // See GenerationState::allocate().
  void allocate(Backend& backend, const StateSizes& sizes);
  // See BlockPolicy::begin_forward().
  void begin_forward(Branch branch, int step);
  Work work(Branch branch) const { return branches_[static_cast<std::size_t>(branch)].work; }
  // See BlockPolicy::run_mlp(). `step` is [1] i32 on the device.
  TensorView run(Context& ctx, Site site, const TensorView& step, const MlpInputs& in);

  void save(Backend& backend, std::vector<StateTensor>& saved) const;
  void restore(Backend& backend, Site site, const std::string& part, const TensorView& host);

 private:
  struct BranchState {
    Work work = Work::kDense;  // in this forward pass
    bool has_activations = false;
    std::optional<int> chosen_at = {};  // step at which the plans were chosen, since the full step
  };
  struct SiteState {
    Tensor activations;  // [tokens, hidden]
    Tensor out;          // [tokens, width]
    Tensor means;        // [blocks, 2·hidden]: means of gates and values
    bool has_activations = false;
    std::unique_ptr<ColumnPlan> plan;
    bool has_plan = false;
  };

  std::int64_t num_blocks() const { return (num_tokens_ + mlp_.block_size - 1) / mlp_.block_size; }
  void run_full(Context& ctx, const MlpInputs& in, SiteState& state);
  void choose(Context& ctx, Site site, const TensorView& step, const MlpInputs& in,
              SiteState& state);
  // Computes the means of gates and values [blocks, 2·hidden] as the means of x, times w1.
  void find_means(Context& ctx, const MlpInputs& in, const TensorView& means) const;
  const Tensor& w2_rows(Backend& backend, int layer, const MatrixView& w2);
  // The transpose of a layer's w2, so that each column of w2 is a row.
  struct Transposed {
    Tensor rows;  // [hidden, width]
    bool is_filled = false;
  };

  MlpSparsity mlp_;
  std::int64_t num_tokens_;
  std::uint64_t seed_;
  std::array<BranchState, 2> branches_{};
  std::map<std::pair<Branch, int>, SiteState> sites_;
  Tensor no_columns_;                  // [blocks, words] i32: no column is chosen unconditionally
  std::map<int, Transposed> w2_rows_;  // by layer
};

}  // namespace mochi
