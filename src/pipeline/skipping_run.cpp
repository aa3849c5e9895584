#include "pipeline/skipping_run.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"

namespace mochi {
namespace {

constexpr std::string_view kSkippingPrefix = "step_skipping.";

StateTensor on_host(std::string_view name, DType dtype, const Shape& shape) {
  return {std::string(kSkippingPrefix) + std::string(name), Tensor(dtype, shape)};
}

template <typename T>
StateTensor list_on_host(std::string_view name, DType dtype, std::span<const T> values) {
  StateTensor saved = on_host(name, dtype, {std::ssize(values)});
  std::memcpy(saved.tensor.view().bytes(), values.data(), values.size_bytes());
  return saved;
}

const TensorView& find_saved(std::span<const StateTensor> saved, std::string_view name, DType dtype,
                             std::optional<Shape> shape = std::nullopt) {
  const std::string wanted = std::string(kSkippingPrefix) + std::string(name);
  const auto found = std::ranges::find(saved, wanted, &StateTensor::name);
  if (found == saved.end()) fail("cached tensor '{}' is missing", wanted);
  const TensorView& view = found->tensor.view();
  if (view.dtype() != dtype || (shape && view.shape() != *shape) || (!shape && view.rank() != 1)) {
    fail("cached tensor '{}': wanted {} {}, found {} {}", wanted, dtype_name(dtype),
         shape ? shape->to_string() : "[n]", dtype_name(view.dtype()), view.shape().to_string());
  }
  return view;
}

int count_of(float value) {
  if (value != 0 && value != 1 && value != 2) {
    fail("cached tensor '{}numbers': wanted counts from 0 to 2, found {}", kSkippingPrefix, value);
  }
  return static_cast<int>(value);
}

}  // namespace

Velocities SkippingRun::next(Context& ctx, const StepPlan& plan, int step, const DenoiseFn& denoise,
                             const TensorView& z, const Velocities& target) {
  const auto at = static_cast<std::size_t>(step);
  const double cfg = plan.cfgs[at];
  const bool is_guided = cfg != 1.0;
  if (history_.can_predict(is_guided) && skipper_.skips(step)) {
    has_changed_ = true;
    const Velocities predicted =
        history_.predict(ctx.backend, is_guided, skipper_.slope_weight(step));
    skipper_.note_skip(step, cfg);
    if (probe_) probe_->measure(ctx, plan, step, z, predicted, skipper_.estimated_error(step));
    return predicted;
  }
  const Velocities found{target.cond, is_guided ? target.null : TensorView()};
  denoise(Branch::kCond, step, plan.sigmas[at], z, found.cond);
  const bool has_own_null =
      is_guided && (!history_.can_predict(true) || skipper_.evaluates_null(step));
  if (has_own_null) denoise(Branch::kNull, step, plan.sigmas[at], z, found.null);
  has_changed_ = true;
  if (is_guided && !has_own_null) history_.complete_null(ctx.backend, found);
  const CorrectionWeights weights = skipper_.correction_weights(step);
  if (weights.cond != 0) history_.correct(ctx, found, weights, z);
  VelocityNorms norms;
  if (skipper_.needs_norms()) {
    norms = history_.measure(ctx, found, cfg, skipper_.line_weight(step));
  }
  skipper_.note_evaluation(step, norms);
  history_.keep(ctx.backend, found, has_own_null);
  return found;
}

std::vector<StateTensor> SkippingRun::save(Backend& backend) const {
  std::vector<StateTensor> saved;
  for (const auto& [name, tensor] : history_.tensors()) {
    saved.push_back(on_host(name, DType::kF32, tensor.shape()));
    backend.run(ops::Download{.source = tensor, .host = saved.back().tensor});
  }
  const StepSkipper::State& state = skipper_.state();
  const auto [num_cond, num_null] = history_.counts();
  const std::array numbers{static_cast<float>(num_cond),
                           static_cast<float>(num_null),
                           state.line_error,
                           state.change_rate,
                           state.line_rate,
                           state.cond_lag,
                           state.null_lag};
  const std::vector<std::int32_t> steps(state.evaluated_steps.begin(), state.evaluated_steps.end());
  saved.push_back(list_on_host("numbers", DType::kF32, std::span<const float>(numbers)));
  saved.push_back(
      list_on_host("evaluated_steps", DType::kI32, std::span<const std::int32_t>(steps)));
  return saved;
}

void SkippingRun::restore(Backend& backend, std::span<const StateTensor> saved) {
  const std::span<const float> numbers = find_saved(saved, "numbers", DType::kF32, Shape{7}).f32();
  history_.set_counts(count_of(numbers[0]), count_of(numbers[1]));
  for (const auto& [name, tensor] : history_.tensors()) {
    backend.run(ops::Upload{.host = find_saved(saved, name, DType::kF32, tensor.shape()),
                            .target = tensor});
  }
  const TensorView& list = find_saved(saved, "evaluated_steps", DType::kI32);
  const auto* const first = reinterpret_cast<const std::int32_t*>(list.bytes());
  StepSkipper::State state{.evaluated_steps = {first, first + list.dim(0)},
                           .line_error = numbers[2],
                           .change_rate = numbers[3],
                           .line_rate = numbers[4],
                           .cond_lag = numbers[5],
                           .null_lag = numbers[6]};
  if (!std::ranges::is_sorted(state.evaluated_steps) || state.evaluated_steps.empty() ||
      state.evaluated_steps.front() < 0 || !skipper_.has_step(state.evaluated_steps.back())) {
    fail("cached tensor '{}evaluated_steps': wanted steps of this sampling in order",
         kSkippingPrefix);
  }
  skipper_.restore(std::move(state));
}

bool SkippingRun::owns(std::string_view name) { return name.starts_with(kSkippingPrefix); }

}  // namespace mochi
