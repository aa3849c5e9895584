#include "weights/weights.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace mochi {

TensorInfo require_weight(const TensorSource& source, const std::string& name, const Shape& shape) {
  TensorInfo found = source.require(name, shape);
  if (is_float(found.dtype)) return found;
  fail("tensor '{}' in '{}': wanted weights, found {}", name, found.origin,
       dtype_name(found.dtype));
}

void LinearWeights::visit(const WeightVisitor& visitor, const std::string& prefix,
                          std::int64_t out_features, std::int64_t in_features, bool has_bias) {
  visitor(prefix + ".weight", weight, {out_features, in_features}, WeightRole::kMatrix);
  if (has_bias) visitor(prefix + ".bias", bias, {out_features}, WeightRole::kVector);
}

std::size_t WeightStore::padded_bytes(const Shape& shape, WeightRole role) const {
  const std::size_t num_bytes =
      static_cast<std::size_t>(shape.num_elements()) * dtype_bytes(dtype_of(role));
  constexpr std::size_t kAlignment = LayerStreamer::kAlignment;
  return (num_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

void WeightStore::make_streamer(const LayerOfFn& layer_of,
                                const std::vector<std::size_t>& layer_bytes) {
  if (layer_bytes.empty()) return;
  streamer_ =
      std::make_unique<LayerStreamer>(backend_, layer_of, *std::ranges::max_element(layer_bytes));
}

TensorView WeightStore::allocate(const std::string& name, const Shape& shape, WeightRole role) {
  const std::optional<std::size_t> layer = streamer_ ? streamer_->layer_of(name) : std::nullopt;
  if (layer != open_layer_) {
    close_layer();
    open_layer_ = layer;
  }
  const DType dtype = dtype_of(role);
  const TensorView view = layer ? streamer_->place(*layer, dtype, shape)
                                : tensors_.emplace_back(dtype, shape, backend_.allocator()).view();
  num_parameters_ += view.num_elements();
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

void WeightStore::load_one(const TensorSource& source, const std::string& name, TensorView& member,
                           const Shape& shape, WeightRole role) {
  const TensorInfo found = require_weight(source, name, shape);
  member = allocate(name, shape, role);
  if (!loader_) {
    source.read(name, member);
    return;
  }
  const TensorView flat = member.reshape({member.num_elements()});
  std::int64_t begin = 0;
  for (const StoredRows& part : source.stored_rows(name)) {
    const std::int64_t end = begin + part.shape.num_elements();
    require_finite(name, found.origin, part);
    loader_->load(part.dtype, part.bytes, flat.rows(begin, end));
    begin = end;
  }
}

void WeightStore::init_one(std::uint64_t seed, const std::string& name, TensorView& member,
                           const Shape& shape, WeightRole role) {
  NormalFill fill{.seed = seed, .mean = 1.0F, .deviation = 0.1F};
  if (role == WeightRole::kMatrix) {
    fill.deviation =
        std::sqrt(static_cast<float>(shape[0]) / static_cast<float>(shape.num_elements()));
    fill.mean = 0.0F;
  } else if (name.ends_with("bias")) {
    fill.deviation = 0.02F;
    fill.mean = 0.0F;
  }
  member = allocate(name, shape, role);
  backend_.fill_normal(fill, member);
}

}  // namespace mochi
