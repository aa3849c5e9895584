#include "weights/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "weights/compute_type.h"

namespace mochi {

TensorInfo require_weight(const TensorSource& source, const std::string& name, const Shape& shape) {
  TensorInfo found = source.require(name, shape);
  if (found.has_values()) return found;
  fail("tensor '{}' in '{}': wanted weights, found {}", name, found.origin,
       storage_type_name(found.type));
}

void LinearWeights::visit(const WeightVisitor& visitor, const std::string& prefix,
                          std::int64_t out_features, std::int64_t in_features, bool has_bias) {
  visitor(prefix + ".weight", weight, {out_features, in_features}, WeightRole::kMatrix);
  if (has_bias) visitor(prefix + ".bias", bias, {out_features}, WeightRole::kVector);
}

namespace {

std::size_t padded(std::size_t num_bytes) {
  constexpr std::size_t kAlignment = LayerStreamer::kAlignment;
  return (num_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Blocks may lie across the rows of a tensor whose file states another shape than it had.
bool has_whole_rows(const StorageType& type, const Shape& shape) {
  const auto* const format = std::get_if<BlockFormat>(&type);
  return format == nullptr ||
         shape[1] % static_cast<std::int64_t>(elements_per_block(*format)) == 0;
}

// Returns the type in which a parameter is kept; `found` is null for random ones.
StorageType type_to_keep(const std::string& name, const Shape& shape, bool can_be_compact,
                         const TensorInfo* found, const MatrixStorage& storage) {
  if (!can_be_compact) return storage.dtype;
  if (!storage.format) {
    const bool can_keep =
        found != nullptr && is_compact(found->type) && has_whole_rows(found->type, shape);
    return can_keep ? found->type : storage.dtype;
  }
  const std::optional<StorageType> wanted = type_in_format(*storage.format, name, shape);
  return wanted && is_compact(*wanted) ? *wanted : storage.dtype;
}

// `what` names the tensor in errors.
CompactMatrix to_compact_named(const std::string& what, std::span<const float> values,
                               std::int64_t num_rows, const StorageType& type) {
  try {
    return to_compact(values, num_rows, type);
  } catch (const Error& error) {
    fail("tensor {}: {}", what, error.what());
  }
}

// Returns the scales of rows that follow one another: one for each row; unless every row needs
// one, also one for all or none.
std::vector<float> join_scales(std::span<const StoredRows> parts, bool needs_all) {
  if (parts.size() == 1 && !needs_all) return parts.front().scales;
  const bool has_scales =
      std::ranges::any_of(parts, [](const StoredRows& part) { return !part.scales.empty(); });
  std::vector<float> scales;
  if (!has_scales && !needs_all) return scales;
  for (const StoredRows& part : parts) {
    const auto num_rows = static_cast<std::size_t>(part.shape[0]);
    if (part.scales.size() == num_rows) {
      scales.insert(scales.end(), part.scales.begin(), part.scales.end());
    } else {
      scales.insert(scales.end(), num_rows, part.scales.empty() ? 1.0F : part.scales.front());
    }
  }
  return scales;
}

StoredRows rows_of(const CompactMatrix& matrix, const StorageType& type, const Shape& shape) {
  return {type, shape, matrix.elements, nullptr, matrix.scales};
}

}  // namespace

std::size_t WeightStore::Plan::num_bytes() const {
  return padded(element_bytes) + padded(scale_bytes);
}

WeightStore::Plan WeightStore::plan(const Parameter& parameter, const TensorSource* source,
                                    const MatrixStorage& storage) {
  const Shape& shape = parameter.shape;
  std::optional<TensorInfo> found;
  if (source != nullptr) found = require_weight(*source, parameter.name, shape);
  Plan plan{DType::kF32};
  if (parameter.role == WeightRole::kMatrix) {
    const std::optional<DType> quantised = quantised_type(storage.compute, parameter.name);
    plan.is_quantised = quantised.has_value();
    plan.type = quantised ? *quantised
                          : type_to_keep(parameter.name, shape, parameter.member.can_be_compact(),
                                         found ? &*found : nullptr, storage);
  }
  plan.element_bytes = storage_bytes(plan.type, shape.num_elements());
  const bool may_have_scales = is_compact(plan.type) && std::holds_alternative<DType>(plan.type);
  if (may_have_scales) plan.scale_bytes = storage_bytes(DType::kF32, shape[0]);
  return plan;
}

void WeightStore::make_streamer(const std::vector<std::size_t>& layer_bytes) {
  if (layer_bytes.empty()) return;
  streamer_ =
      std::make_unique<LayerStreamer>(backend_, layer_of_, *std::ranges::max_element(layer_bytes));
}

void WeightStore::enter_layer(const std::string& name) {
  const std::optional<std::size_t> layer = streamer_ ? streamer_->layer_of(name) : std::nullopt;
  if (layer == open_layer_) return;
  close_layer();
  open_layer_ = layer;
}

TensorView WeightStore::allocate(DType dtype, const Shape& shape) {
  const TensorView view = open_layer_
                              ? streamer_->place(*open_layer_, dtype, shape)
                              : tensors_.emplace_back(dtype, shape, backend_.allocator()).view();
  size_bytes_ += view.size_bytes();
  return view;
}

void WeightStore::close_layer() {
  if (!open_layer_) return;
  if (loader_) loader_->finish();
  streamer_->keep(*open_layer_);
  open_layer_.reset();
}

void WeightStore::finish() {
  close_layer();
  if (loader_) loader_->finish();
  loader_.reset();
}

void WeightStore::load_one(const TensorSource& source, const Parameter& parameter) {
  const Plan kept = plan(parameter, &source, storage_);
  enter_layer(parameter.name);
  num_parameters_ += parameter.shape.num_elements();
  if (is_compact(kept.type)) return parameter.member.set(load_compact(source, parameter, kept));
  const TensorView target = allocate(std::get<DType>(kept.type), parameter.shape);
  parameter.member.set(target);
  load_dense(source, parameter.name, target);
}

void WeightStore::load_dense(const TensorSource& source, const std::string& name,
                             const TensorView& target) {
  if (!loader_) return source.read(name, target);
  const TensorView flat = target.reshape({target.num_elements()});
  std::int64_t begin = 0;
  for (const StoredRows& part : source.stored_rows(name)) {
    const std::int64_t end = begin + part.shape.num_elements();
    require_finite(name, source.info(name).origin, part);
    const StoredRows floats = widen(part);
    loader_->load(std::get<DType>(floats.type), floats.bytes, flat.rows(begin, end));
    begin = end;
  }
}

MatrixView WeightStore::load_compact(const TensorSource& source, const Parameter& parameter,
                                     const Plan& kept) {
  const auto& [name, shape, role, member] = parameter;
  const TensorInfo found = source.info(name);
  if (found.type == kept.type) {
    const std::vector<StoredRows> parts = source.stored_rows(name);
    for (const StoredRows& part : parts) require_finite(name, found.origin, part);
    return store_rows(parameter, kept, parts);
  }
  const Tensor values(DType::kF32, shape);
  source.read(name, values);
  const std::string what = fmt::format("'{}' in '{}'", name, found.origin);
  const CompactMatrix matrix = to_compact_named(what, values.view().f32(), shape[0], kept.type);
  return store_rows(parameter, kept, {{rows_of(matrix, kept.type, shape)}});
}

void WeightStore::store_bytes(std::span<const std::byte> bytes, const TensorView& target) {
  if (loader_) return loader_->load(target.dtype(), bytes, target);
  std::memcpy(target.bytes(), bytes.data(), bytes.size());
}

MatrixView WeightStore::store_rows(const Parameter& parameter, const Plan& kept,
                                   std::span<const StoredRows> parts) {
  const Shape& shape = parameter.shape;
  const StorageType& type = kept.type;
  const auto num_bytes = static_cast<std::int64_t>(storage_bytes(type, shape.num_elements()));
  const TensorView elements = allocate(DType::kU8, {num_bytes});
  std::int64_t begin = 0;
  for (const StoredRows& part : parts) {
    const std::int64_t end = begin + std::ssize(part.bytes);
    store_bytes(part.bytes, elements.rows(begin, end));
    if (!loader_) part.release();
    begin = end;
  }
  const std::vector<float> scales = join_scales(parts, kept.is_quantised);
  if (scales.empty()) return {type, elements, {}, shape, storage_.dtype};
  const TensorView stored_scales = allocate(DType::kF32, {std::ssize(scales)});
  store_bytes(std::as_bytes(std::span(scales)), stored_scales);
  if (kept.is_quantised) {
    const TensorView values(elements.bytes(), std::get<DType>(type), shape, elements.device());
    return {values, stored_scales};
  }
  return {type, elements, stored_scales, shape, storage_.dtype};
}

void WeightStore::init_one(std::uint64_t seed, const Parameter& parameter) {
  const auto& [name, shape, role, member] = parameter;
  float mean = 1.0F;
  float deviation = 0.1F;
  if (role == WeightRole::kMatrix) {
    deviation = std::sqrt(static_cast<float>(shape[0]) / static_cast<float>(shape.num_elements()));
    mean = 0.0F;
  } else if (name.ends_with("bias")) {
    deviation = 0.02F;
    mean = 0.0F;
  }
  const Plan kept = plan(parameter, nullptr, storage_);
  enter_layer(name);
  num_parameters_ += shape.num_elements();
  if (!is_compact(kept.type)) {
    const TensorView target = allocate(std::get<DType>(kept.type), shape);
    backend_.run(
        ops::FillNormal{.target = target, .seed = seed, .mean = mean, .deviation = deviation});
    return member.set(target);
  }
  const Tensor values(DType::kF32, shape, backend_.allocator());
  const Tensor host(DType::kF32, shape);
  backend_.run(
      ops::FillNormal{.target = values, .seed = seed, .mean = mean, .deviation = deviation});
  backend_.run(ops::Download{.source = values, .host = host});
  const CompactMatrix matrix = to_compact_named(name, host.view().f32(), shape[0], kept.type);
  member.set(store_rows(parameter, kept, {{rows_of(matrix, kept.type, shape)}}));
}

}  // namespace mochi
