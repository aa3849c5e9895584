#include "pipeline/euler_loop.h"

#include <algorithm>

#include "base/error.h"

namespace mochi {

bool StepPlan::needs_null_branch() const {
  return std::ranges::any_of(cfgs, [](double cfg) { return cfg != 1.0; });
}

bool run_euler_loop(Context& ctx, const StepPlan& plan, const DenoiseFn& denoise,
                    const StepFn& on_step, const TensorView& z, int first_step) {
  if (plan.sigmas.size() != plan.cfgs.size() + 1) {
    fail("a plan of {} noise levels and {} guidance values", plan.sigmas.size(), plan.cfgs.size());
  }
  const Tensor cond(DType::kF32, z.shape(), ctx.backend.allocator());
  const Tensor null(DType::kF32, z.shape(), ctx.backend.allocator());
  for (int step = first_step; step < plan.num_steps(); ++step) {
    const auto at = static_cast<std::size_t>(step);
    const double sigma = plan.sigmas[at];
    const bool is_guided = plan.cfgs[at] != 1.0;
    denoise(Branch::kCond, step, sigma, z, cond);
    if (is_guided) denoise(Branch::kNull, step, sigma, z, null);
    ctx.backend.guided_euler(cond, is_guided ? null.view() : cond.view(),
                             static_cast<float>(plan.cfgs[at]),
                             static_cast<float>(sigma - plan.sigmas[at + 1]), z);
    if (!on_step(step + 1)) return step + 1 == plan.num_steps();
  }
  return true;
}

}  // namespace mochi
