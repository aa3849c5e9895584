#include "pipeline/product_probe.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace mochi {
namespace {

constexpr std::int64_t kMaxRows = 1024;
constexpr int kNumMeasured = 4;  // or one more, where that does not divide the steps

// The rows in the middle.
TensorView some_rows(const TensorView& x) {
  const std::int64_t num_rows = std::min(x.dim(0), kMaxRows);
  const std::int64_t first = (x.dim(0) - num_rows) / 2;
  return x.rows(first, first + num_rows);
}

MatrixView quantise(Context& ctx, const TensorView& x, DType type) {
  const MatrixView rows(ctx.scratch.allocate(type, x.shape()),
                        ctx.scratch.allocate(DType::kF32, {x.dim(0)}));
  ctx.run(ops::QuantiseRows{.x = x, .out = rows});
  return rows;
}

TensorView multiply(Context& ctx, const MatrixView& x, const MatrixView& weight) {
  const Shape shape{x.dim(0), weight.dim(0)};
  const TensorView out = ctx.activation(shape);
  const TensorView floats = ctx.scratch.allocate(DType::kF32, shape);
  ctx.run(ops::Linear{.x = x, .weight = weight, .out = out});
  ctx.run(ops::Copy{.source = out, .target = floats});
  return floats;
}

}  // namespace

ProductProbe::ProductProbe(Backend& inner, const Dit& dit)
    : Launches(inner.shared_device()), inner_(inner), scratch_(inner.allocator()) {
  DitWeights weights = dit.weights();
  weights.visit([&](const std::string& name, const WeightMember& member, const Shape&, WeightRole) {
    const auto place = find_layer(name);
    if (place) places_.emplace(member.get().values().bytes(), *place);
  });
}

bool ProductProbe::wants(int step, int num_steps) {
  if (step == measured_step_) return true;  // the other branch
  if (step < next_step_) return false;
  measured_step_ = step;
  next_step_ = step + std::max(1, num_steps / kNumMeasured);
  return true;
}

void ProductProbe::report(int step, Branch branch, const ProductFn& on_product) {
  for (const auto& [key, types] : squares_) {
    ProductReport report{.step = step,
                         .block = key.first,
                         .is_null_branch = branch == Branch::kNull,
                         .layers = key.second};
    for (const auto& [type, squares] : types) {
      report.errors[type] = squares.total > 0 ? std::sqrt(squares.difference / squares.total) : 0.0;
    }
    on_product(report);
  }
  squares_.clear();
}

void ProductProbe::launch(const ops::Widen& op) {
  inner_.run(op);
  widened_from_ = op.matrix.values().bytes();
  widened_to_ = op.out.bytes();
}

const LayerPlace* ProductProbe::find_place(const TensorView& weight) const {
  const std::byte* const memory = weight.bytes() == widened_to_ ? widened_from_ : weight.bytes();
  const auto found = places_.find(memory);
  return found == places_.end() ? nullptr : &found->second;
}

void ProductProbe::measure(const MatrixView& x, const InMatrix& weight) {
  const LayerPlace* const place = find_place(weight.values());
  if (place == nullptr || x.is_quantised() || x.dim(0) == 0) return;
  std::map<ComputeType, DType> types{{ComputeType::kInt8, DType::kI8}};
  if (device().device().is_cpu()) types.emplace(ComputeType::kFp8, DType::kF8E4M3);
  const Arena::Scope scope(scratch_);
  Context ctx{inner_, scratch_};
  const TensorView rows = some_rows(x.values());
  const TensorView wanted = multiply(ctx, rows, weight);
  const TensorView norms = scratch_.allocate(DType::kF32, {2});
  for (const auto& [type, dtype] : types) {
    const Arena::Scope scope_of_type(scratch_);
    const TensorView found =
        multiply(ctx, quantise(ctx, rows, dtype), quantise(ctx, weight.values(), dtype));
    ctx.run(ops::DifferenceNorms{.a = found, .b = wanted, .scratch = scratch_, .out = norms});
    const Tensor host(DType::kF32, {2});
    ctx.run(ops::Download{.source = norms, .host = host});
    const std::span<const float> values = host.view().f32();
    Squares& squares = squares_[{place->block, place->layers}][type];
    squares.difference += static_cast<double>(values[0]) * values[0];
    squares.total += static_cast<double>(values[1]) * values[1];
  }
}

}  // namespace mochi
