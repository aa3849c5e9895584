// Checks of the operands of one call.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "backend/ops/operand.h"

namespace mochi {

// The dtypes that an operand may have; none means any.
class AllowedDTypes {
 public:
  void add(DType dtype) {
    if (!contains(dtype)) dtypes_.at(count_++) = dtype;
  }
  bool contains(DType dtype) const { return std::ranges::find(all(), dtype) != all().end(); }
  std::span<const DType> all() const { return std::span(dtypes_).first(count_); }

 private:
  std::array<DType, 4> dtypes_{};
  std::size_t count_ = 0;
};

// Every message starts with the operation's name. Throws Error.
class Contract {
 public:
  Contract(const char* op, Device device, DType activation_dtype)
      : op_(op), device_(device), activation_dtype_(activation_dtype) {}

  void require(bool holds, const std::string& wanted) const;
  void shape(const char* name, const TensorView& tensor, const Shape& wanted) const {
    shape(name, tensor.shape(), wanted);
  }
  void shape(const char* name, const MatrixView& matrix, const Shape& wanted) const {
    shape(name, matrix.shape(), wanted);
  }
  void shape(const char* name, const Shape& found, const Shape& wanted) const;
  void rank(const char* name, const Shape& found, int wanted) const;
  void rank(const char* name, const TensorView& tensor, int wanted) const {
    rank(name, tensor.shape(), wanted);
  }
  void rank(const char* name, const MatrixView& matrix, int wanted) const {
    rank(name, matrix.shape(), wanted);
  }
  // A tensor that may be left out.
  void optional_shape(const char* name, const TensorView& tensor, const Shape& wanted) const {
    if (tensor) shape(name, tensor, wanted);
  }
  void dtype(const char* name, const TensorView& tensor, DType wanted) const;

  // 8-bit products take both sides in the same dtype.
  void product(const MatrixView& x, const MatrixView& weight) const;

  // Checks presence, device and dtype by the operand's role.
  void operand(const char* name, Role role, const TensorView& tensor) const;
  void operand(const char* name, Role role, const MatrixView& matrix) const;

 private:
  AllowedDTypes allowed_dtypes(Elements elements) const;
  void require_dtype(const char* name, DType found, Elements elements) const;

  const char* op_;
  Device device_;
  DType activation_dtype_;
};

}  // namespace mochi
