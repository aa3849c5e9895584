// Forward passes of the transformer on random values.
#pragma once

#include "bench/inputs.h"
#include "bench/network.h"
#include "dit/dit.h"

namespace mochi::bench {

// Everything that a forward pass of one size needs, made once.
class DitRunner {
 public:
  // latents [channels, frames, rows, columns].
  DitRunner(Session& session, const Dit& dit, const Shape& latents);

  const TokenGrid& grid() const { return run_.grid; }
  // By the session's backend, or one around it.
  void run(Backend& backend);
  bool is_finite();  // what the last run computed

 private:
  Backend& backend_;
  const Dit& dit_;
  RandomInputs inputs_;
  Arena scratch_;
  TensorView latents_, velocity_;
  DitRun run_;
  ForwardRecorder recorder_;
  TextCondition text_;
};

// velocity of latents [channels, frames, rows, columns] f32 and text features [tokens, text_width].
void run_dit(Backend& backend, const Dit& dit, const TensorView& text, const TensorView& latents,
             const TensorView& velocity);

}  // namespace mochi::bench
