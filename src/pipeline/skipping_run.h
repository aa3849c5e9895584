// Step skipping in one sampling: the decisions, the velocities behind them, and their place in
// checkpoints.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "pipeline/euler_loop.h"
#include "pipeline/skip_probe.h"
#include "pipeline/velocity_history.h"
#include "sparsity/generation_state.h"

namespace mochi {

class SkippingRun {
 public:
  // With a `probe`, every skipped step is measured.
  SkippingRun(StepSkipper skipper, Backend& backend, const Shape& shape, bool has_null,
              std::optional<SkipProbe> probe = std::nullopt)
      : skipper_(std::move(skipper)),
        history_(backend, shape, has_null),
        probe_(std::move(probe)) {}

  // Returns the velocities at `step`: evaluated into `target`, or predicted. `denoise` is called
  // for each branch that is evaluated. An evaluation may correct z.
  Velocities next(Context& ctx, const StepPlan& plan, int step, const DenoiseFn& denoise,
                  const TensorView& z, const Velocities& target);

  const std::vector<int>& evaluated_steps() const { return skipper_.evaluated_steps(); }
  double estimate_evaluations(int step) const { return skipper_.estimate_evaluations(step); }

  // True from the moment at which a step changes what save() returns until begin_step().
  bool has_changed() const { return has_changed_; }
  void begin_step() { has_changed_ = false; }
  std::vector<StateTensor> save(Backend& backend) const;
  // Takes over what save() returned. Throws Error naming a tensor that is missing or does not fit.
  void restore(Backend& backend, std::span<const StateTensor> saved);
  // Returns true if a tensor of this name belongs to save().
  static bool owns(std::string_view name);

 private:
  StepSkipper skipper_;
  VelocityHistory history_;
  std::optional<SkipProbe> probe_;
  bool has_changed_ = false;
};

}  // namespace mochi
