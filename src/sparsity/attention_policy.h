// How the joint attention of one site is computed. The transformer knows this interface alone.
#pragma once

#include <cstdint>

#include "backend/backend.h"

namespace mochi {

enum class Branch : std::uint8_t { kCond, kNull };

// One place in the network that attends: caches and plans exist once per site.
struct AttentionSite {
  Branch branch = Branch::kCond;
  int layer = 0;
};

class AttentionPolicy {
 public:
  virtual ~AttentionPolicy() = default;
  // out [tokens, heads·head_dim] from q, k, v [heads, tokens, head_dim]; visual tokens first.
  virtual void attend(Context& ctx, AttentionSite site, int step, const AttentionInputs& in,
                      const TensorView& out) = 0;
};

// Every query attends to every key.
class DensePolicy final : public AttentionPolicy {
 public:
  void attend(Context& ctx, AttentionSite /*site*/, int /*step*/, const AttentionInputs& in,
              const TensorView& out) override {
    ctx.backend.attention(in, out);
  }
};

}  // namespace mochi
