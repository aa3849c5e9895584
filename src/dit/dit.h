// The diffusion transformer of Mochi 1: joint attention over visual and text tokens, one velocity
// per call. It computes in the order of the published model. A policy computes the attention.
#pragma once

#include <functional>

#include "dit/block_policy.h"
#include "dit/dit_weights.h"
#include "dit/forward_recorder.h"
#include "dit/rotary.h"

namespace mochi {

// Inputs that depend on the prompt only; constant during a generation.
struct TextCondition {
  Tensor pooled;  // [1, hidden_size_x] pooled caption
  Tensor tokens;  // [tokens, hidden_size_y] projected features; no rows for an empty prompt
};

// Inputs that depend on the video size only; constant for all steps and prompts.
struct DitRun {
  TokenGrid grid;
  RotaryTable rotary;
  // [tokens] i32: raster index of each token, and the inverse; empty for raster order.
  Tensor order = {}, positions = {};
  Tensor timesteps = {};  // [num_steps, timestep_features] f32; empty: computed at each call
};

// Called after each block with the current visual tokens [tokens, hidden_size_x].
using LayerFn = std::function<void(Branch branch, std::size_t layer, const TensorView& tokens)>;

// One evaluation of the network.
struct DitCall {
  Branch branch = Branch::kCond;
  int step = 0;        // sampling step, for the policy
  float sigma = 1.0F;  // noise level: 1 is pure noise, 0 is clean
  LayerFn on_layer = {};
  ForwardRecorder* recorder = nullptr;  // captures passes with one policy; may be null
  // Visual tokens [tokens, hidden_size_x] after the blocks: given, the blocks are skipped.
  TensorView cached_hidden = {};
  TensorView kept_hidden = {};  // where those of this pass are stored; empty: nowhere
};

class Dit {
 public:
  // The views in `weights` must stay valid. With a `streamer`, those of a block need to be valid
  // only while the block runs, which the streamer ensures.
  explicit Dit(DitWeights weights, LayerStreamer* streamer = nullptr)
      : weights_(std::move(weights)), streamer_(streamer) {}

  const DitConfig& config() const { return weights_.config; }
  const DitWeights& weights() const { return weights_; }
  // Returns true if the blocks' weights are on the device only while they run.
  bool is_streamed() const { return streamer_ != nullptr; }
  // The dtype in which the visual feed-forward layers take their weights.
  DType mlp_dtype() const { return weights_.blocks.front().x.mlp_w2.weight.dtype(); }

  // features [tokens, text_width] have the activation dtype and hold valid tokens only, possibly
  // none.
  TextCondition condition(Context& ctx, const TensorView& features) const;

  // Returns the token grid of latents of this size; rows and columns must divide into patches.
  TokenGrid token_grid(std::int64_t frames, std::int64_t rows, std::int64_t columns) const;
  // `order` is described at BlockPolicy::token_order; `sigmas` holds the known noise levels of
  // all steps.
  DitRun prepare(Backend& backend, const TokenGrid& grid, std::span<const std::int32_t> order = {},
                 std::span<const double> sigmas = {}) const;

  // Computes velocity = prediction of (clean latents − noise). latents and velocity are [channels,
  // frames, rows, columns] f32. Throws Cancelled if ctx asks for it: before the first block,
  // and between blocks that are not captured.
  void forward(Context& ctx, const DitRun& run, const DitCall& call, const TextCondition& text,
               BlockPolicy& policy, const TensorView& latents, const TensorView& velocity) const;

 private:
  struct Stream;
  // Returns true if the next block's weights are also on the device while a block runs.
  bool looks_ahead() const { return streamer_ == nullptr; }
  // Returns silu(timestep embedding + pooled caption): [1, hidden_size_x].
  TensorView conditioning(Context& ctx, const DitRun& run, const DitCall& call,
                          const TensorView& pooled) const;
  void run_blocks(Context& ctx, const DitRun& run, const DitCall& call, const TensorView& c,
                  const TextCondition& text, BlockPolicy& policy, const TensorView& latents,
                  const TensorView& velocity) const;
  void run_block(Context& ctx, std::size_t layer, const DitCall& call, const TensorView& c,
                 BlockPolicy& policy, Stream& x, Stream& y) const;
  void attend(Context& ctx, std::size_t layer, const DitCall& call, BlockPolicy& policy,
              const Stream& x, const Stream& y) const;
  // Sets x [tokens, hidden_size_x] to the embedded patches of the latents.
  void embed_patches(Context& ctx, const DitRun& run, const TensorView& latents,
                     const TensorView& x) const;
  void finish(Context& ctx, const DitRun& run, const TensorView& tokens, const TensorView& c,
              const TensorView& velocity) const;

  DitWeights weights_;
  LayerStreamer* streamer_;
};

}  // namespace mochi
