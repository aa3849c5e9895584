// Measures how near the predicted velocities of skipped steps are to those of the transformer.
#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "mochi/analysis.h"
#include "pipeline/euler_loop.h"

namespace mochi {

using SkipFn = std::function<void(const SkipReport&)>;

class SkipProbe {
 public:
  // `denoise` must change nothing that later steps depend on.
  SkipProbe(DenoiseFn denoise, SkipFn on_skip)
      : denoise_(std::move(denoise)), on_skip_(std::move(on_skip)) {}

  // Evaluates the velocities at `step` and reports the error of the `predicted` ones.
  void measure(Context& ctx, const StepPlan& plan, int step, const TensorView& z,
               const Velocities& predicted, std::optional<double> estimated_error) const;

 private:
  DenoiseFn denoise_;
  SkipFn on_skip_;
};

}  // namespace mochi
