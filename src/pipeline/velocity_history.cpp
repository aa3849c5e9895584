#include "pipeline/velocity_history.h"

#include <algorithm>
#include <array>

namespace mochi {

TensorView guide(Context& ctx, const Velocities& v, double cfg) {
  if (!v.null) return v.cond;
  const TensorView guided = ctx.scratch.allocate(DType::kF32, v.cond.shape());
  ctx.run(ops::WeightedSum{.a = v.cond,
                           .weight_a = static_cast<float>(cfg),
                           .b = v.null,
                           .weight_b = static_cast<float>(1 - cfg),
                           .out = guided});
  return guided;
}

VelocityHistory::VelocityHistory(Backend& backend, const Shape& shape, bool has_null) {
  const auto make = [&] { return Tensor(DType::kF32, shape, backend.allocator()); };
  cond_ = {make(), make(), make()};
  if (!has_null) return;
  null_ = {make(), make(), make()};
  guidance_ = make();
}

Velocities VelocityHistory::predict(Backend& backend, bool is_guided, double weight) const {
  const auto of_branch = [&](const Branch& branch, int num) -> TensorView {
    if (weight == 0 || num < 2) return branch.last;
    backend.run(ops::WeightedSum{.a = branch.last,
                                 .weight_a = static_cast<float>(1 + weight),
                                 .b = branch.before,
                                 .weight_b = static_cast<float>(-weight),
                                 .out = branch.predicted});
    return branch.predicted;
  };
  return {of_branch(cond_, num_cond_), is_guided ? of_branch(null_, num_null_) : TensorView()};
}

void VelocityHistory::complete_null(Backend& backend, const Velocities& v) const {
  backend.run(
      ops::WeightedSum{.a = v.cond, .weight_a = 1, .b = guidance_, .weight_b = -1, .out = v.null});
}

VelocityNorms VelocityHistory::measure(Context& ctx, const Velocities& v, double cfg,
                                       double line_weight) const {
  if (num_cond_ == 0) return {};
  const Arena::Scope scope(ctx.scratch);
  // Without former velocities of the unconditional branch, the other one alone is compared.
  const int num = v.null && num_null_ > 0 ? num_null_ : num_cond_;
  const bool is_guided = v.null && num_null_ > 0;
  const auto null_of = [&](const TensorView& null) { return is_guided ? null : TensorView(); };
  const TensorView now = guide(ctx, {v.cond, null_of(v.null)}, cfg);
  const TensorView last = guide(ctx, {cond_.last, null_of(null_.last)}, cfg);
  const TensorView norms = ctx.scratch.allocate(DType::kF32, {2, 2});
  const TensorView of_change = norms.rows(0, 1).reshape({2});
  const TensorView of_line = norms.rows(1, 2).reshape({2});
  ctx.run(ops::DifferenceNorms{.a = now, .b = last, .scratch = ctx.scratch, .out = of_change});
  TensorView line = last;
  if (num > 1) {
    const TensorView before = guide(ctx, {cond_.before, null_of(null_.before)}, cfg);
    line = ctx.scratch.allocate(DType::kF32, last.shape());
    ctx.run(ops::WeightedSum{.a = last,
                             .weight_a = static_cast<float>(1 + line_weight),
                             .b = before,
                             .weight_b = static_cast<float>(-line_weight),
                             .out = line});
  }
  ctx.run(ops::DifferenceNorms{.a = line, .b = now, .scratch = ctx.scratch, .out = of_line});
  std::array<float, 4> host{};
  ctx.run(ops::Download{.source = norms, .host = TensorView(host.data(), DType::kF32, {2, 2})});
  return {.former = host[1], .change = host[0], .current = host[3], .line_error = host[2]};
}

void VelocityHistory::correct(Context& ctx, const Velocities& v, const CorrectionWeights& weights,
                              const TensorView& z) const {
  const Arena::Scope scope(ctx.scratch);
  const TensorView change = ctx.scratch.allocate(DType::kF32, z.shape());
  const auto move = [&](const TensorView& now, const TensorView& last, double weight) {
    ctx.run(ops::WeightedSum{.a = now, .weight_a = 1, .b = last, .weight_b = -1, .out = change});
    ctx.run(ops::WeightedSum{
        .a = z, .weight_a = 1, .b = change, .weight_b = static_cast<float>(weight), .out = z});
  };
  const bool knows_null = v.null && num_null_ > 0;
  move(v.cond, cond_.last, knows_null ? weights.cond : weights.cond + weights.null);
  if (knows_null && weights.null != 0) move(v.null, null_.last, weights.null);
}

void VelocityHistory::push(Backend& backend, Branch& branch, const TensorView& velocity) {
  std::swap(branch.last, branch.before);
  backend.run(ops::Copy{.source = velocity, .target = branch.last});
}

void VelocityHistory::keep(Backend& backend, const Velocities& v, bool has_own_null) {
  push(backend, cond_, v.cond);
  num_cond_ = std::min(num_cond_ + 1, 2);
  if (!v.null) {
    num_null_ = 0;
    return;
  }
  push(backend, null_, v.null);
  num_null_ = std::min(num_null_ + 1, 2);
  if (has_own_null)
    backend.run(ops::WeightedSum{
        .a = v.cond, .weight_a = 1, .b = v.null, .weight_b = -1, .out = guidance_});
}

std::vector<std::pair<const char*, TensorView>> VelocityHistory::tensors() const {
  std::vector<std::pair<const char*, TensorView>> named;
  if (num_cond_ > 0) named.emplace_back("cond.last", cond_.last);
  if (num_cond_ > 1) named.emplace_back("cond.before", cond_.before);
  if (num_null_ > 0) named.emplace_back("null.last", null_.last);
  if (num_null_ > 1) named.emplace_back("null.before", null_.before);
  if (num_null_ > 0) named.emplace_back("guidance", guidance_);
  return named;
}

void VelocityHistory::set_counts(int num_cond, int num_null) {
  num_cond_ = num_cond;
  num_null_ = guidance_ ? num_null : 0;
}

}  // namespace mochi
