// The diffusion transformer of Mochi 1: joint attention over visual and text tokens, one velocity
// per call. It computes in the order of the published model; attention goes through a policy.
#pragma once

#include "dit/dit_weights.h"
#include "dit/rotary.h"
#include "sparsity/attention_policy.h"

namespace mochi {

// What one prompt contributes; the same at every step of a generation.
struct TextCondition {
  Tensor pooled;  // [1, hidden_size_x] pooled caption
  Tensor tokens;  // [tokens, hidden_size_y] projected features; no rows for an empty prompt
};

// What one video size contributes; the same at every step and for every prompt.
struct DitRun {
  TokenGrid grid;
  RotaryTable rotary;
};

// One evaluation of the network.
struct DitCall {
  Branch branch = Branch::kCond;
  int step = 0;        // sampling step, for the policy
  float sigma = 1.0F;  // noise level: 1 is pure noise, 0 is clean
};

class Dit {
 public:
  // The views in `weights` must stay valid.
  explicit Dit(DitWeights weights) : weights_(std::move(weights)) {}

  const DitConfig& config() const { return weights_.config; }

  // features [tokens, text_width], activation dtype, valid tokens only, perhaps none.
  TextCondition condition(Context& ctx, const TensorView& features) const;

  // For latents [channels, frames, rows, columns]; rows and columns must divide into patches.
  DitRun prepare(Backend& backend, std::int64_t frames, std::int64_t rows,
                 std::int64_t columns) const;

  // velocity = prediction of (clean latents − noise); both [channels, frames, rows, columns] f32.
  void forward(Context& ctx, const DitRun& run, const DitCall& call, const TextCondition& text,
               AttentionPolicy& policy, const TensorView& latents,
               const TensorView& velocity) const;

 private:
  struct Stream;
  // silu of (timestep embedding + pooled caption): [1, hidden_size_x].
  TensorView conditioning(Context& ctx, float sigma, const TensorView& pooled) const;
  void run_block(Context& ctx, std::size_t layer, const DitCall& call, const TensorView& c,
                 AttentionPolicy& policy, Stream& x, Stream& y) const;
  void attend(Context& ctx, std::size_t layer, const DitCall& call, AttentionPolicy& policy,
              const Stream& x, const Stream& y) const;
  void finish(Context& ctx, const TensorView& tokens, const TensorView& c,
              const TensorView& velocity) const;

  DitWeights weights_;
};

}  // namespace mochi
