// Random inputs of operations, and the last rows of these inputs for the oracle.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "backend/backend.h"

namespace mochi::bench {

struct Normal {
  float mean = 0.0F, deviation = 1.0F;
};

// An operation is independent along some axis of its tensors (rows, frames, queries); tensors
// without such an axis (weights) are always used in full.
inline constexpr int kNoRows = -1;

// The source of the tensors of a case, which live as long as this.
class Inputs {
 public:
  explicit Inputs(Backend& backend) : backend_(backend), scratch_(backend.allocator()) {}
  virtual ~Inputs() = default;
  Inputs(const Inputs&) = delete;
  Inputs& operator=(const Inputs&) = delete;

  TensorView activations(const Shape& shape, int row_axis = 0, Normal values = {}) {
    return make(backend_.activation_dtype(), shape, row_axis, values);
  }
  TensorView f32(const Shape& shape, int row_axis = 0, Normal values = {}) {
    return make(DType::kF32, shape, row_axis, values);
  }
  // [out_features, in_features…], with values that keep the magnitude of what they are multiplied
  // by.
  TensorView matrix(const Shape& shape);
  TensorView vector(std::int64_t size, Normal values = {1.0F, 0.1F}) {
    return make(DType::kF32, {size}, kNoRows, values);
  }
  // Returns the rows of `dense` as I8.
  MatrixView quantised(const TensorView& dense);
  // Returns a copy of the case's own values.
  TensorView upload(const TensorView& host);
  // Fills the tensor with NaNs, so that an element that is never written shows.
  TensorView output(DType dtype, const Shape& shape, int row_axis = 0);
  TensorView output(const Shape& shape, int row_axis = 0) {
    return output(backend_.activation_dtype(), shape, row_axis);
  }
  // Adds an input that the operation overwrites, too.
  void add_output(const TensorView& tensor, int row_axis) {
    outputs_.push_back({tensor, row_axis});
  }

  // Scratch memory for operations that need some.
  Arena& scratch() { return scratch_; }

  struct Output {
    TensorView tensor;
    int row_axis;
  };
  const std::vector<Output>& outputs() const { return outputs_; }

 protected:
  virtual TensorView make(DType dtype, const Shape& shape, int row_axis, Normal values) = 0;
  TensorView allocate(DType dtype, const Shape& shape) {
    return tensors_.emplace_back(dtype, shape, backend_.allocator());
  }
  Backend& backend() { return backend_; }

 private:
  Backend& backend_;
  std::deque<Tensor> tensors_;
  Arena scratch_;
  std::vector<Output> outputs_;
};

class RandomInputs final : public Inputs {
 public:
  // The values are a function of the seed and of the order in which tensors are created.
  RandomInputs(Backend& backend, std::uint64_t seed) : Inputs(backend), seed_(seed) {}

  // Tensors in the order in which they were created.
  const std::vector<TensorView>& made() const { return made_; }

 private:
  TensorView make(DType dtype, const Shape& shape, int row_axis, Normal values) override;

  std::uint64_t seed_;
  std::vector<TensorView> made_;
};

// The oracle's inputs, in F32: for each input of a case, as many of its last rows as the caller
// requests.
class LastRows final : public Inputs {
 public:
  LastRows(Backend& oracle, Backend& device, const RandomInputs& all)
      : Inputs(oracle), device_(device), all_(all) {}

 private:
  TensorView make(DType dtype, const Shape& shape, int row_axis, Normal values) override;

  Backend& device_;
  const RandomInputs& all_;
  std::size_t num_made_ = 0;
};

// The last shape[row_axis] rows of a tensor that else has this shape, on the host as F32.
Tensor download_last_rows(Backend& backend, const TensorView& tensor, const Shape& shape,
                          int row_axis);

}  // namespace mochi::bench
