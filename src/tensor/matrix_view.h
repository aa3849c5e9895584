// Matrices of weights and of activations: dense, quantised for 8-bit products, or as small as a
// file stores them.
#pragma once

#include <cstddef>

#include "tensor/storage_type.h"
#include "tensor/tensor.h"

namespace mochi {

// A matrix [rows, columns] that owns nothing. A default view is empty and means "no matrix".
class MatrixView {
 public:
  MatrixView() = default;
  MatrixView(const TensorView& dense)  // NOLINT: every dense matrix is one
      : values_(dense), shape_(dense.shape()), type_(dense.dtype()), dtype_(dense.dtype()) {}
  MatrixView(const Tensor& dense) : MatrixView(dense.view()) {}  // NOLINT: as above
  // A matrix for 8-bit products: `values` [rows, columns] I8 or F8_E4M3 times `scales` [rows] f32.
  MatrixView(const TensorView& values, const TensorView& scales) : MatrixView(values) {
    scales_ = scales;
  }
  // `stored` [bytes] u8 holds the elements in row-major order; `scales` [1] or [rows] f32 multiply
  // them, or are empty. Products take the values in `dtype`, F32 or BF16.
  MatrixView(const StorageType& type, const TensorView& stored, const TensorView& scales,
             const Shape& shape, DType dtype)
      : values_(stored), scales_(scales), shape_(shape), type_(type), dtype_(dtype) {}

  explicit operator bool() const { return static_cast<bool>(values_); }
  bool is_dense() const { return type_ == StorageType(dtype_) && !is_quantised(); }
  bool is_quantised() const { return dtype_ == DType::kI8 || dtype_ == DType::kF8E4M3; }
  // Returns true if the elements are of another type than products take.
  bool is_stored() const { return type_ != StorageType(dtype_); }
  const StorageType& type() const { return type_; }  // type of the stored elements
  DType dtype() const { return dtype_; }             // type in which products take the values
  Device device() const { return values_.device(); }
  const Shape& shape() const { return shape_; }
  std::int64_t dim(int index) const { return shape_[index]; }
  std::int64_t num_elements() const { return shape_.num_elements(); }
  std::size_t size_bytes() const {
    return values_.size_bytes() + (scales_ ? scales_.size_bytes() : 0);
  }

  // The matrix itself, if it is dense. [rows, columns], or [bytes] u8 if it is stored.
  const TensorView& values() const { return values_; }
  const TensorView& scales() const { return scales_; }

 private:
  TensorView values_, scales_;
  Shape shape_;
  StorageType type_ = DType::kF32;
  DType dtype_ = DType::kF32;
};

}  // namespace mochi
