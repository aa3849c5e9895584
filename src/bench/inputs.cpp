#include "bench/inputs.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "tensor/float_arrays.h"

namespace mochi::bench {
namespace {

// Elements [begin, end) of a tensor, flat.
TensorView flat_part(const TensorView& tensor, std::int64_t begin, std::int64_t end) {
  return tensor.reshape({tensor.num_elements()}).rows(begin, end);
}

}  // namespace

TensorView Inputs::matrix(const Shape& shape) {
  const std::int64_t fan_in = shape.num_elements() / shape[0];
  const Normal values{0.0F, 1.0F / std::sqrt(static_cast<float>(fan_in))};
  return make(backend_.device().preferred_matrix_dtype(), shape, kNoRows, values);
}

MatrixView Inputs::quantised(const TensorView& dense) {
  const MatrixView rows(allocate(DType::kI8, dense.shape()), allocate(DType::kF32, {dense.dim(0)}));
  backend_.run(ops::QuantiseRows{.x = dense, .out = rows});
  return rows;
}

TensorView Inputs::upload(const TensorView& host) {
  const TensorView tensor = allocate(host.dtype(), host.shape());
  backend_.run(ops::Upload{.host = host, .target = tensor});
  return tensor;
}

TensorView Inputs::output(DType dtype, const Shape& shape, int row_axis) {
  const TensorView tensor = allocate(dtype, shape);
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  backend_.run(ops::FillNormal{.target = tensor, .seed = 0, .mean = kNan, .deviation = 0.0F});
  add_output(tensor, row_axis);
  return tensor;
}

TensorView RandomInputs::make(DType dtype, const Shape& shape, int /*row_axis*/, Normal values) {
  const TensorView tensor = allocate(dtype, shape);
  const std::uint64_t seed = (seed_ << 16U) + made_.size();
  backend().run(ops::FillNormal{
      .target = tensor, .seed = seed, .mean = values.mean, .deviation = values.deviation});
  made_.push_back(tensor);
  return tensor;
}

TensorView LastRows::make(DType /*dtype*/, const Shape& shape, int row_axis, Normal /*values*/) {
  const Tensor host = download_last_rows(device_, all_.made().at(num_made_++), shape, row_axis);
  const TensorView tensor = allocate(DType::kF32, shape);
  backend().run(ops::Upload{.host = host, .target = tensor});
  return tensor;
}

Tensor download_last_rows(Backend& backend, const TensorView& tensor, const Shape& shape,
                          int row_axis) {
  const int axis = std::max(row_axis, 0);
  std::int64_t num_outer = 1;
  for (int i = 0; i < axis; ++i) num_outer *= shape[i];
  const std::int64_t length = shape.num_elements() / std::max<std::int64_t>(num_outer, 1);
  const std::int64_t stride = tensor.num_elements() / std::max<std::int64_t>(num_outer, 1);
  if (length > stride)
    fail("{} has not the rows of {}", tensor.shape().to_string(), shape.to_string());
  Tensor rows(DType::kF32, shape);
  const Tensor part(tensor.dtype(), {length});
  for (std::int64_t outer = 0; outer < num_outer; ++outer) {
    backend.run(ops::Download{
        .source = flat_part(tensor, (outer + 1) * stride - length, (outer + 1) * stride),
        .host = part});
    convert_to_f32(tensor.dtype(), {part.view().bytes(), part.view().size_bytes()},
                   flat_part(rows, outer * length, (outer + 1) * length).f32());
  }
  return rows;
}

}  // namespace mochi::bench
