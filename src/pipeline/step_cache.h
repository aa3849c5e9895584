// Step caching: some steps skip the transformer's blocks and use the visual tokens that came out of
// them at the last step that ran them.
#pragma once

#include <array>
#include <span>
#include <string_view>
#include <vector>

#include "dit/dit.h"
#include "mochi/sparsity.h"
#include "sparsity/generation_state.h"

namespace mochi {

class StepCache {
 public:
  // `tokens` is the shape of the visual tokens after the blocks, [tokens, hidden_size_x]. Allocates
  // nothing unless the configuration enables step caching.
  StepCache(const SparsityConfig& config, Backend& backend, const Shape& tokens, bool has_null);

  // Adds to the call of a forward pass what it reads from the cache or stores in it.
  void prepare(DitCall& call);

  // As those of GenerationState.
  void begin_step() { has_changed_ = false; }
  bool has_changed() const { return has_changed_; }
  std::vector<StateTensor> save(Backend& backend) const;
  // Throws Error naming a tensor that does not fit.
  void restore(Backend& backend, std::span<const StateTensor> saved);
  // Returns true if a tensor of this name belongs to save().
  static bool owns(std::string_view name);

 private:
  struct Hidden {
    Tensor tokens;
    bool is_filled = false;
  };
  SparsityConfig config_;
  std::array<Hidden, 2> branches_;
  bool has_changed_ = false;
};

}  // namespace mochi
