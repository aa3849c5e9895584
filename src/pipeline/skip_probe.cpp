#include "pipeline/skip_probe.h"

#include <array>

#include "pipeline/velocity_history.h"

namespace mochi {

void SkipProbe::measure(Context& ctx, const StepPlan& plan, int step, const TensorView& z,
                        const Velocities& predicted, std::optional<double> estimated_error) const {
  const Tensor cond(DType::kF32, z.shape(), ctx.backend.allocator());
  const Tensor null(DType::kF32, z.shape(), ctx.backend.allocator());
  const Velocities found = evaluate_branches(plan, step, denoise_, z, {cond, null});
  const Arena::Scope scope(ctx.scratch);
  const double cfg = plan.cfgs[static_cast<std::size_t>(step)];
  const TensorView norms = ctx.scratch.allocate(DType::kF32, {2});
  ctx.run(ops::DifferenceNorms{.a = guide(ctx, predicted, cfg),
                               .b = guide(ctx, found, cfg),
                               .scratch = ctx.scratch,
                               .out = norms});
  std::array<float, 2> host{};
  ctx.run(ops::Download{.source = norms, .host = TensorView(host.data(), DType::kF32, {2})});
  on_skip_({.step = step,
            .estimated_error = estimated_error,
            .true_error = static_cast<double>(host[0]) / host[1]});
}

}  // namespace mochi
