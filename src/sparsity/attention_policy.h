// Interface for computing the joint attention and the visual feed-forward layer of one site. It is
// all that the transformer knows of sparsity.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "mochi/message.h"
#include "sparsity/token_order.h"

namespace mochi {

enum class Branch : std::uint8_t { kCond, kNull };

// One place in the network: caches and plans exist once per site.
struct AttentionSite {
  Branch branch = Branch::kCond;
  int layer = 0;
};

// A gated feed-forward layer without biases: W2·(silu(a)·b) with (a | b) = W1·x.
struct MlpInputs {
  TensorView x;   // [tokens, width]
  MatrixView w1;  // [2·hidden, width]
  MatrixView w2;  // [width, hidden]
};

// Computes the whole layer: activations [tokens, hidden] = silu(a)·b and out [tokens, width].
void dense_mlp(Context& ctx, const MlpInputs& in, const TensorView& activations,
               const TensorView& out);
// Returns the layer's output, allocated in the caller's scratch scope.
TensorView dense_mlp(Context& ctx, const MlpInputs& in);

// One tensor of a policy's state, on the host.
struct PolicyTensor {
  std::string name;
  Tensor tensor;
};

// Forward passes of one branch with equal keys launch the same operations on the same memory.
struct RecordingKey {
  std::uint32_t kind = 0;   // kind of the step
  std::uint64_t epoch = 0;  // changes whenever memory is allocated or moves
  bool operator==(const RecordingKey&) const = default;
};

// Sizes from which a policy computes the memory of its caches.
struct CacheSizes {
  int num_layers = 0;
  std::int64_t num_heads = 0, head_dim = 0;
  std::int64_t mlp_hidden = 0;               // hidden columns of the visual feed-forward layers
  std::array<std::int64_t, 2> num_tokens{};  // in the attention of each branch; 0: it never runs
};

class AttentionPolicy {
 public:
  virtual ~AttentionPolicy() = default;
  // Decides where the caches of this generation are stored. Called before the first step and before
  // restore(). `available_bytes` is the free device memory, or 0 if it is unknown. Returns a line
  // that explains the decision, or nothing. `on_message` receives details of offloading. Throws
  // OutOfMemory if the caches must stay on the device and do not fit.
  virtual std::string place_caches(Backend& /*backend*/, const CacheSizes& /*sizes*/,
                                   std::uint64_t /*available_bytes*/,
                                   const MessageFn& /*on_message*/) {
    return {};
  }

  // Called before each forward pass that runs the blocks, outside graph capture. Uploads values
  // that change from step to step.
  virtual void begin_forward(Context& /*ctx*/, Branch /*branch*/, int /*step*/) {}
  // Called before the first block, inside graph capture.
  virtual void begin_blocks(Context& /*ctx*/, Branch /*branch*/, int /*step*/) {}
  // Computes out [tokens, heads·head_dim] from q, k, v [heads, tokens, head_dim]. Visual tokens
  // come first.
  virtual void attend(Context& ctx, AttentionSite site, int step, const AttentionInputs& in,
                      const TensorView& out) = 0;
  // Computes the feed-forward layer of the visual tokens and returns [tokens, width], which is
  // valid until the caller's scratch scope ends or the site runs again.
  virtual TensorView run_mlp(Context& ctx, AttentionSite /*site*/, int /*step*/,
                             const MlpInputs& in) {
    return dense_mlp(ctx, in);
  }

  // Element i is the raster index of the i-th visual token in the blocks. Empty: raster order.
  virtual std::span<const std::int32_t> token_order() const { return {}; }

  // Key of this step's forward pass, called after begin_forward(). No key: the pass cannot be
  // captured, or equals no other pass.
  virtual std::optional<RecordingKey> recording_key(Branch /*branch*/, int /*step*/) const {
    return std::nullopt;
  }

  // Step caching: returns the blocks' last result [visual tokens, hidden_size_x] if this step skips
  // the blocks, else nothing.
  virtual TensorView cached_hidden(Branch /*branch*/, int /*step*/) const { return {}; }
  // Called with the result of the blocks after they ran.
  virtual void keep_hidden(Context& /*ctx*/, Branch /*branch*/, const TensorView& /*hidden*/) {}

  // Called before the forward passes of each step.
  virtual void begin_step() {}
  // Returns true if this step has begun to rewrite what save() returns. It is consistent again when
  // the step is complete.
  virtual bool has_changed() const { return false; }
  // Saves and restores everything that later steps depend on, so that a generation can stop after
  // any step and continue with a new policy. restore() throws Error naming a tensor that does not
  // fit.
  virtual std::vector<PolicyTensor> save(Backend& /*backend*/) const { return {}; }
  virtual void restore(Backend& /*backend*/, const std::vector<PolicyTensor>& /*tensors*/) {}
};

// Every query attends to every key, and every hidden column is computed.
class DensePolicy final : public AttentionPolicy {
 public:
  void attend(Context& ctx, AttentionSite /*site*/, int /*step*/, const AttentionInputs& in,
              const TensorView& out) override {
    ctx.backend.attention(in, {out});
  }
  std::optional<RecordingKey> recording_key(Branch /*branch*/, int /*step*/) const override {
    return RecordingKey{};
  }
};

}  // namespace mochi
