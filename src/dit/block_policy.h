// The interface through which the transformer computes the joint attention and the visual
// feed-forward layer of its blocks, dense or sparse. It is all that the transformer knows of
// sparsity.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "backend/backend.h"
#include "dit/token_grid.h"

namespace mochi {

enum class Branch : std::uint8_t { kCond, kNull };

// One place in the network: caches and plans exist once per site.
struct Site {
  Branch branch = Branch::kCond;
  int layer = 0;
};

// A gated feed-forward layer without biases: W2·(silu(a)·b) with (a | b) = W1·x.
struct MlpInputs {
  MatrixView x;   // [tokens, width], in the dtype of w1's products
  MatrixView w1;  // [2·hidden, width]
  MatrixView w2;  // [width, hidden]
};

// Computes the whole layer: activations [tokens, hidden] = silu(a)·b, in the dtype of w2's
// products, and out [tokens, width].
void dense_mlp(Context& ctx, const MlpInputs& in, const MatrixView& activations,
               const TensorView& out);
// Returns the layer's output, allocated in the caller's scratch scope.
TensorView dense_mlp(Context& ctx, const MlpInputs& in);

// Forward passes of one branch with equal keys launch the same operations on the same tensors.
struct GraphKey {
  std::uint32_t kind = 0;     // kind of the step
  std::uint32_t version = 0;  // passes of this kind with a former version do not come back
};

class BlockPolicy {
 public:
  virtual ~BlockPolicy() = default;

  // Element i is the raster index of the i-th visual token in the blocks. Empty: raster order.
  virtual std::span<const std::int32_t> token_order() const { return {}; }

  // Called before each forward pass that runs the blocks, outside graph capture. Uploads values
  // that change from step to step.
  virtual void begin_forward(Context& /*ctx*/, Branch /*branch*/, int /*step*/) {}
  // Key of this step's forward pass, called after begin_forward(). No key: the pass cannot be
  // captured, or equals no other pass.
  virtual std::optional<GraphKey> graph_key(Branch /*branch*/, int /*step*/) const {
    return std::nullopt;
  }
  // Called before the first block and after the last one, inside graph capture.
  virtual void begin_blocks(Context& /*ctx*/, Branch /*branch*/, int /*step*/) {}
  virtual void end_blocks(Context& /*ctx*/) {}

  // Computes out [tokens, heads·head_dim] from q, k, v [heads, tokens, head_dim]. Visual tokens
  // come first.
  virtual void attend(Context& ctx, Site site, int step, const AttentionInputs& in,
                      const TensorView& out) = 0;
  // Computes the feed-forward layer of the visual tokens and returns [tokens, width], which is
  // valid until the caller's scratch scope ends or the site runs again.
  virtual TensorView run_mlp(Context& ctx, Site /*site*/, int /*step*/, const MlpInputs& in) {
    return dense_mlp(ctx, in);
  }
};

// Every query attends to every key, and every hidden column is computed.
class DensePolicy final : public BlockPolicy {
 public:
  std::optional<GraphKey> graph_key(Branch /*branch*/, int /*step*/) const override {
    return GraphKey{};
  }
  void attend(Context& ctx, Site /*site*/, int /*step*/, const AttentionInputs& in,
              const TensorView& out) override {
    ctx.run(ops::Attention{.in = in, .to = {out}});
  }
};

}  // namespace mochi
