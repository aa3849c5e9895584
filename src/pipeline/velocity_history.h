// The velocities of the last evaluations, from which those of skipped steps are predicted.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "pipeline/euler_loop.h"
#include "pipeline/step_skipper.h"

namespace mochi {

// Returns the velocity that the branches make with guidance, in the scratch.
TensorView guide(Context& ctx, const Velocities& v, double cfg);

class VelocityHistory {
 public:
  // `has_null` is false if no step has guidance.
  VelocityHistory(Backend& backend, const Shape& shape, bool has_null);

  // Returns true if the last evaluation gives the velocities of a step with (or without) guidance.
  bool can_predict(bool is_guided) const { return num_cond_ > 0 && (!is_guided || num_null_ > 0); }

  // Returns v₀ + weight·(v₀ − v₁) of each branch, valid until the next call; v₀ alone for a branch
  // that was evaluated once.
  Velocities predict(Backend& backend, bool is_guided, double weight) const;
  // Fills v.null for a step that evaluated v.cond alone: the branches differ as they did at the
  // last evaluation of both.
  void complete_null(Backend& backend, const Velocities& v) const;
  // Compares the guided velocity with those of the evaluations before. `line_weight` is that of
  // StepSkipper. Waits for the device.
  VelocityNorms measure(Context& ctx, const Velocities& v, double cfg, double line_weight) const;
  // Moves z by `weights` times the changes of the branches' velocities since the last evaluation.
  // A change of the unconditional branch that is not known counts as that of the other one.
  void correct(Context& ctx, const Velocities& v, const CorrectionWeights& weights,
               const TensorView& z) const;
  // Keeps an evaluation. `has_own_null` is false if complete_null() filled v.null.
  void keep(Backend& backend, const Velocities& v, bool has_own_null);

  // All tensors, for saving and restoring on the device, and the numbers that belong to them.
  std::vector<std::pair<const char*, TensorView>> tensors() const;
  std::pair<int, int> counts() const { return {num_cond_, num_null_}; }
  void set_counts(int num_cond, int num_null);

 private:
  struct Branch {
    Tensor last, before, predicted;
  };
  static void push(Backend& backend, Branch& branch, const TensorView& velocity);

  Branch cond_, null_;
  Tensor guidance_;   // v_cond − v_null of the last evaluation of both
  int num_cond_ = 0;  // evaluations, counted to 2
  int num_null_ = 0;  // consecutive evaluations with the unconditional branch, counted to 2
};

}  // namespace mochi
