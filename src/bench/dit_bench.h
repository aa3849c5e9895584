// Forward passes of the transformer on random values.
#pragma once

#include <memory>

#include "bench/inputs.h"
#include "bench/network.h"
#include "dit/dit.h"
#include "sparsity/column_sparse_policy.h"

namespace mochi::bench {

// Everything that a forward pass of one size needs, made once.
class DitRunner {
 public:
  // latents [channels, frames, rows, columns]; without `sparsity` dense.
  DitRunner(Session& session, const Dit& dit, const Shape& latents,
            const SparsityConfig* sparsity = nullptr);

  const TokenGrid& grid() const { return run_.grid; }
  // Runs a step as a generation does, on the session's backend or a decorator of it.
  void run(Backend& backend, int step = 0);
  // Allocates the policy's state, once, if there is a sparse policy. See GenerationState.
  void allocate_state(std::uint64_t available_bytes);
  // Null if the pass is dense.
  const ColumnSparsePolicy* sparse_policy() const { return sparse_.get(); }
  bool is_finite();  // checks the output of the last run

 private:
  Backend& backend_;
  const StopFn& should_stop_;
  const Dit& dit_;
  RandomInputs inputs_;
  Arena scratch_;
  TensorView latents_, velocity_;
  DensePolicy dense_;
  std::unique_ptr<ColumnSparsePolicy> sparse_;
  DitRun run_;
  ForwardRecorder recorder_;
  TextCondition text_;
};

Shape latents_shape(const DitConfig& config, const Latents& latents);

// Returns the requested lengths, or the default of the size.
std::vector<int> frames_of(const Session& session);

// velocity of latents [channels, frames, rows, columns] f32 and text features [tokens, text_width].
void run_dit(Backend& backend, const Dit& dit, const TensorView& text, const TensorView& latents,
             const TensorView& velocity);

}  // namespace mochi::bench
