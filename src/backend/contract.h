// Checks of the op table's front. Only the front uses this header.
#pragma once

#include <string>

#include "backend/backend.h"
#include "base/error.h"

namespace mochi {

// Checks the tensors of one call of an operation. Every message starts with the operation's name.
class Contract {
 public:
  Contract(const char* op, const Backend& backend) : op_(op), backend_(backend) {}

  void require(bool holds, const std::string& wanted) const {
    if (!holds) throw Error(std::string(op_) + ": " + wanted);
  }
  void shape(const char* name, const TensorView& tensor, const Shape& wanted) const {
    shape(name, tensor.shape(), wanted);
  }
  void shape(const char* name, const Shape& found, const Shape& wanted) const {
    if (found == wanted) return;
    throw Error(std::string(op_) + ": " + name + " is " + found.to_string() + ", wanted " +
                wanted.to_string());
  }
  void rank(const char* name, const TensorView& tensor, int wanted) const {
    rank(name, tensor.shape(), wanted);
  }
  void rank(const char* name, const Shape& found, int wanted) const {
    if (found.rank() == wanted) return;
    throw Error(std::string(op_) + ": " + name + " is " + found.to_string() + ", wanted rank " +
                std::to_string(wanted));
  }
  void activation(const char* name, const TensorView& tensor) const {
    dtype(name, tensor, backend_.activation_dtype());
  }
  void f32(const char* name, const TensorView& tensor) const { dtype(name, tensor, DType::kF32); }
  void dtype(const char* name, const TensorView& tensor, DType wanted) const {
    on_device(name, tensor);
    if (tensor.dtype() == wanted) return;
    throw Error(std::string(op_) + ": " + name + " is " + dtype_name(tensor.dtype()) + ", wanted " +
                dtype_name(wanted));
  }
  void matrix(const char* name, const TensorView& tensor) const {
    if (backend_.device() != Device::kCpu) return activation(name, tensor);
    on_device(name, tensor);
    require(is_matrix_dtype(tensor.dtype()),
            std::string(name) + " is " + dtype_name(tensor.dtype()) + ", wanted F32 or BF16");
  }
  void matrix(const char* name, const MatrixView& matrix) const {
    if (matrix.is_dense()) return this->matrix(name, matrix.values());
    require(is_matrix_dtype(matrix.dtype()),
            std::string(name) + " is for products in " + dtype_name(matrix.dtype()));
    require(is_compact(matrix.type()),
            std::string(name) + " is stored as " + storage_type_name(matrix.type()));
    rank(name, matrix.shape(), 2);
    dtype(name, matrix.values(), DType::kU8);
    shape(name, matrix.values(),
          {static_cast<std::int64_t>(storage_bytes(matrix.type(), matrix.num_elements()))});
    const TensorView& scales = matrix.scales();
    if (scales) vector(name, scales, scales.num_elements() == 1 ? 1 : matrix.dim(0));
  }
  void vector(const char* name, const TensorView& tensor, std::int64_t size) const {
    f32(name, tensor);
    shape(name, tensor, {size});
  }
  void optional_vector(const char* name, const TensorView& tensor, std::int64_t size) const {
    if (tensor) vector(name, tensor, size);
  }

 private:
  bool is_matrix_dtype(DType dtype) const {
    if (backend_.device() != Device::kCpu) return dtype == backend_.activation_dtype();
    return dtype == DType::kF32 || dtype == DType::kBF16;
  }
  void on_device(const char* name, const TensorView& tensor) const {
    require(static_cast<bool>(tensor), std::string(name) + " is missing");
    require(tensor.device() == backend_.device(), std::string(name) + " is on another device");
  }
  const char* op_;
  const Backend& backend_;
};

}  // namespace mochi
