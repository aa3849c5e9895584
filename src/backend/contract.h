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
    if (tensor.rank() == wanted) return;
    throw Error(std::string(op_) + ": " + name + " is " + tensor.shape().to_string() +
                ", wanted rank " + std::to_string(wanted));
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
    require(tensor.dtype() == DType::kF32 || tensor.dtype() == DType::kBF16,
            std::string(name) + " is " + dtype_name(tensor.dtype()) + ", wanted F32 or BF16");
  }
  void vector(const char* name, const TensorView& tensor, std::int64_t size) const {
    f32(name, tensor);
    shape(name, tensor, {size});
  }
  void optional_vector(const char* name, const TensorView& tensor, std::int64_t size) const {
    if (tensor) vector(name, tensor, size);
  }

 private:
  void on_device(const char* name, const TensorView& tensor) const {
    require(static_cast<bool>(tensor), std::string(name) + " is missing");
    require(tensor.device() == backend_.device(), std::string(name) + " is on another device");
  }
  const char* op_;
  const Backend& backend_;
};

}  // namespace mochi
