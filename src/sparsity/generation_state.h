// State that a policy holds during one generation.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "mochi/message.h"

namespace mochi {

// One tensor of a generation's state, on the host.
struct StateTensor {
  std::string name;
  Tensor tensor;
};

// Sizes from which the memory of the state follows.
struct StateSizes {
  int num_layers = 0;
  std::int64_t num_heads = 0, head_dim = 0;
  std::int64_t mlp_hidden = 0;               // hidden columns of the visual feed-forward layers
  DType mlp_dtype = DType::kF32;             // in which their products take weights
  std::array<std::int64_t, 2> num_tokens{};  // in the attention of each branch; 0: it never runs
};

class GenerationState {
 public:
  virtual ~GenerationState() = default;

  // Allocates all memory of the generation, before its first step and before restore().
  // `available_bytes` is the free device memory, or 0 if it is unknown; what does not fit is
  // offloaded to the host, if the configuration allows that. Returns a line that explains the
  // decision, or nothing. `on_message` receives details of offloading. Throws OutOfMemory.
  virtual std::string allocate(Backend& backend, const StateSizes& sizes,
                               std::uint64_t available_bytes, const MessageFn& on_message) = 0;

  // Called before the forward passes of each step.
  virtual void begin_step() = 0;
  // Returns true if this step has begun to rewrite what save() returns. It is consistent again when
  // the step is complete.
  virtual bool has_changed() const = 0;
  // Saves and restores everything that later steps depend on, so that a generation can stop after
  // any step and continue with a new policy. restore() throws Error naming a tensor that does not
  // fit.
  virtual std::vector<StateTensor> save(Backend& backend) const = 0;
  virtual void restore(Backend& backend, const std::vector<StateTensor>& tensors) = 0;
};

}  // namespace mochi
