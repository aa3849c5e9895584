// Euler's method along the flow from noise to latents. Arithmetic only; the
// caller provides the velocities.
#pragma once

#include <functional>
#include <vector>

#include "backend/backend.h"
#include "dit/block_policy.h"

namespace mochi {

struct StepPlan {
  std::vector<double> sigmas;  // num_steps + 1 noise levels
  std::vector<double> cfgs;    // guidance of each step; at 1 the unconditional branch is not run

  int num_steps() const { return static_cast<int>(cfgs.size()); }
  bool needs_null_branch() const;
};

// velocity = the flow at z (both f32, of one shape) and noise level `sigma`, for one branch.
using DenoiseFn = std::function<void(Branch branch, int step, double sigma, const TensorView& z,
                                     const TensorView& velocity)>;

// Velocities of both branches, f32 in the shape of the latents. `null` is empty without guidance.
struct Velocities {
  TensorView cond, null;
};

// Evaluates the velocities at `step` into `target`.
Velocities evaluate_branches(const StepPlan& plan, int step, const DenoiseFn& denoise,
                             const TensorView& z, const Velocities& target);

// Called after each step; false ends the sampling.
using StepFn = std::function<bool(int num_done)>;

class SkippingRun;

// Moves z from noise (at sigmas.front()) to latents (at sigmas.back()); from first_step on, when a
// former run has come that far. Every step evaluates the velocities unless `skipping` predicts
// them. Returns true if all steps were done.
bool run_euler_loop(Context& ctx, const StepPlan& plan, const DenoiseFn& denoise,
                    const StepFn& on_step, const TensorView& z, int first_step = 0,
                    SkippingRun* skipping = nullptr);

}  // namespace mochi
