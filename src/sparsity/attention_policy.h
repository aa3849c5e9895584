// How the joint attention and the visual feed-forward layer of one site are computed. The
// transformer knows this interface alone.
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
  TensorView w1;  // [2·hidden, width] matrix
  TensorView w2;  // [width, hidden] matrix
};

// All of it: activations [tokens, hidden] = silu(a)·b and out [tokens, width].
void dense_mlp(Context& ctx, const MlpInputs& in, const TensorView& activations,
               const TensorView& out);
// Its output, in the caller's scratch scope.
TensorView dense_mlp(Context& ctx, const MlpInputs& in);

// A part of a policy's state, on the host.
struct PolicyTensor {
  std::string name;
  Tensor tensor;
};

// Forwards of one branch whose kind and epoch are the same ask the same of the backend.
struct RecordingKey {
  std::uint32_t kind = 0;   // of the step
  std::uint64_t epoch = 0;  // of the memory that they use
  bool operator==(const RecordingKey&) const = default;
};

// What a policy must know of a generation to say how much memory its caches take.
struct CacheSizes {
  int num_layers = 0;
  std::int64_t num_heads = 0, head_dim = 0;
  std::int64_t mlp_hidden = 0;               // of the visual tokens' feed-forward layers
  std::array<std::int64_t, 2> num_tokens{};  // in each branch's attention; 0: it never runs
};

class AttentionPolicy {
 public:
  virtual ~AttentionPolicy() = default;
  // Called before the first step and before restore(). Decides where the caches of this generation
  // are stored, given how much device memory is available (0: unknown). Returns the decision and
  // its reason as a sentence, or nothing. `on_message` receives details of offloading later on.
  // Throws OutOfMemory when the caches have to stay on the device and do not fit.
  virtual std::string place_caches(Backend& /*backend*/, const CacheSizes& /*sizes*/,
                                   std::uint64_t /*available_bytes*/,
                                   const MessageFn& /*on_message*/) {
    return {};
  }

  // Before each forward that runs the blocks, and never part of what is recorded: brings to the
  // device what is not the same at all steps of a kind.
  virtual void begin_forward(Context& /*ctx*/, Branch /*branch*/, int /*step*/) {}
  // As the first of the blocks' work.
  virtual void begin_blocks(Context& /*ctx*/, Branch /*branch*/, int /*step*/) {}
  // out [tokens, heads·head_dim] from q, k, v [heads, tokens, head_dim]; visual tokens first.
  virtual void attend(Context& ctx, AttentionSite site, int step, const AttentionInputs& in,
                      const TensorView& out) = 0;
  // The feed-forward layer of the visual tokens: [tokens, width]. It lives until the caller's
  // scratch scope ends or the site runs again.
  virtual TensorView run_mlp(Context& ctx, AttentionSite /*site*/, int /*step*/,
                             const MlpInputs& in) {
    return dense_mlp(ctx, in);
  }

  // Raster index of the i-th visual token of the blocks; empty: raster order.
  virtual std::span<const std::int32_t> token_order() const { return {}; }

  // After begin_forward(), if there is one at this step. None: the forward is like no other, or
  // cannot be recorded.
  virtual std::optional<RecordingKey> recording_key(Branch /*branch*/, int /*step*/) const {
    return std::nullopt;
  }

  // Step caching: at some steps the blocks are left out, and their result is the last one.
  // The result to use at this step [visual tokens, hidden_size_x], or none: run the blocks.
  virtual TensorView cached_hidden(Branch /*branch*/, int /*step*/) const { return {}; }
  // After the blocks ran: their result.
  virtual void keep_hidden(Context& /*ctx*/, Branch /*branch*/, const TensorView& /*hidden*/) {}

  // Called before the forward passes of each step.
  virtual void begin_step() {}
  // Whether this step has begun to rewrite what save() returns, which is then consistent again when
  // the step is complete.
  virtual bool has_changed() const { return false; }
  // All that later steps depend on, and back: a generation can stop after any step and go on with
  // a new policy. restore() throws Error naming the tensor that does not fit.
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
