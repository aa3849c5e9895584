#include "pipeline/euler_loop.h"

#include <algorithm>

#include "base/error.h"
#include "pipeline/skipping_run.h"

namespace mochi {

bool StepPlan::needs_null_branch() const {
  return std::ranges::any_of(cfgs, [](double cfg) { return cfg != 1.0; });
}

Velocities evaluate_branches(const StepPlan& plan, int step, const DenoiseFn& denoise,
                             const TensorView& z, const Velocities& target) {
  const auto at = static_cast<std::size_t>(step);
  denoise(Branch::kCond, step, plan.sigmas[at], z, target.cond);
  if (plan.cfgs[at] == 1.0) return {target.cond, {}};
  denoise(Branch::kNull, step, plan.sigmas[at], z, target.null);
  return target;
}

bool run_euler_loop(Context& ctx, const StepPlan& plan, const DenoiseFn& denoise,
                    const StepFn& on_step, const TensorView& z, int first_step,
                    SkippingRun* skipping) {
  if (plan.sigmas.size() != plan.cfgs.size() + 1) {
    fail("a plan of {} noise levels and {} guidance values", plan.sigmas.size(), plan.cfgs.size());
  }
  const Tensor cond(DType::kF32, z.shape(), ctx.backend.allocator());
  const Tensor null(DType::kF32, z.shape(), ctx.backend.allocator());
  for (int step = first_step; step < plan.num_steps(); ++step) {
    const auto at = static_cast<std::size_t>(step);
    const Velocities v = skipping == nullptr
                             ? evaluate_branches(plan, step, denoise, z, {cond, null})
                             : skipping->next(ctx, plan, step, denoise, z, {cond, null});
    ctx.run(ops::GuidedEuler{.v_cond = v.cond,
                             .v_null = v.null ? v.null : v.cond,
                             .cfg = static_cast<float>(plan.cfgs[at]),
                             .dsigma = static_cast<float>(plan.sigmas[at] - plan.sigmas[at + 1]),
                             .z = z});
    if (!on_step(step + 1)) return step + 1 == plan.num_steps();
  }
  return true;
}

}  // namespace mochi
