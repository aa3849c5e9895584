#include "backend/ops/contract.h"

#include "base/error.h"

namespace mochi {
namespace {

// Returns what a message says was wanted.
std::string describe(Elements elements, DType activation) {
  std::string activation_name = dtype_name(activation);
  switch (elements) {
    case Elements::kActivation:
      return activation_name;
    case Elements::kF32:
      return dtype_name(DType::kF32);
    case Elements::kI32:
      return dtype_name(DType::kI32);
    case Elements::kU8:
      return dtype_name(DType::kU8);
    case Elements::kMatrix:
      return "F32 or BF16";
    case Elements::kF32OrActivation:
      return "F32 or " + activation_name;
    case Elements::kF32OrMatrix:
      return "F32 or BF16";
    case Elements::kCache:
      return activation_name + " or F8_E4M3";
    case Elements::kAny:
      break;
  }
  return "any dtype";
}

}  // namespace

void Contract::require(bool holds, const std::string& wanted) const {
  if (!holds) throw Error(std::string(op_) + ": " + wanted);
}

void Contract::shape(const char* name, const Shape& found, const Shape& wanted) const {
  if (found == wanted) return;
  fail("{}: {} is {}, wanted {}", op_, name, found.to_string(), wanted.to_string());
}

void Contract::rank(const char* name, const Shape& found, int wanted) const {
  if (found.rank() == wanted) return;
  fail("{}: {} is {}, wanted rank {}", op_, name, found.to_string(), wanted);
}

void Contract::dtype(const char* name, const TensorView& tensor, DType wanted) const {
  if (tensor.dtype() == wanted) return;
  fail("{}: {} is {}, wanted {}", op_, name, dtype_name(tensor.dtype()), dtype_name(wanted));
}

bool Contract::is_matrix_dtype(DType dtype) const {
  if (!device_.is_cpu()) return dtype == activation_dtype_;
  return dtype == DType::kF32 || dtype == DType::kBF16;
}

bool Contract::is_allowed(Elements elements, DType dtype) const {
  switch (elements) {
    case Elements::kActivation:
      return dtype == activation_dtype_;
    case Elements::kF32:
      return dtype == DType::kF32;
    case Elements::kI32:
      return dtype == DType::kI32;
    case Elements::kU8:
      return dtype == DType::kU8;
    case Elements::kMatrix:
      return is_matrix_dtype(dtype);
    case Elements::kF32OrActivation:
      return dtype == DType::kF32 || dtype == activation_dtype_;
    case Elements::kF32OrMatrix:
      return dtype == DType::kF32 || is_matrix_dtype(dtype);
    case Elements::kCache:
      return dtype == DType::kF8E4M3 || dtype == activation_dtype_;
    case Elements::kAny:
      break;
  }
  return true;
}

void Contract::operand(const char* name, Role role, const TensorView& tensor) const {
  if (!tensor && role.is_optional) return;
  require(static_cast<bool>(tensor), std::string(name) + " is missing");
  if (role.place == Place::kHost) {
    require(tensor.device().is_cpu(), std::string(name) + " is not on the host");
  } else {
    require(tensor.device() == device_, std::string(name) + " is on another device");
  }
  if (!is_allowed(role.elements, tensor.dtype())) {
    fail("{}: {} is {}, wanted {}", op_, name, dtype_name(tensor.dtype()),
         describe(role.elements, activation_dtype_));
  }
}

void Contract::operand(const char* name, Role role, const MatrixView& matrix) const {
  if (matrix.is_dense()) return operand(name, role, matrix.values());
  require(is_matrix_dtype(matrix.dtype()),
          std::string(name) + " is for products in " + dtype_name(matrix.dtype()));
  require(is_compact(matrix.type()),
          std::string(name) + " is stored as " + storage_type_name(matrix.type()));
  rank(name, matrix, 2);
  operand(name, {.elements = Elements::kU8}, matrix.values());
  shape(name, matrix.values(),
        {static_cast<std::int64_t>(storage_bytes(matrix.type(), matrix.num_elements()))});
  const TensorView& scales = matrix.scales();
  operand(name, {.elements = Elements::kF32, .is_optional = true}, scales);
  optional_shape(name, scales, {scales.num_elements() == 1 ? 1 : matrix.dim(0)});
}

}  // namespace mochi
