#include "backend/ops/contract.h"

#include <fmt/ranges.h>

#include <ranges>

#include "base/error.h"

namespace mochi {
namespace {

// Returns what a message says was wanted; `allowed` is not empty.
std::string describe(std::span<const DType> allowed) {
  const auto names = allowed | std::views::transform(dtype_name);
  const std::size_t num_others = allowed.size() - 1;
  if (num_others == 0) return names.front();
  return fmt::format("{} or {}", fmt::join(names | std::views::take(num_others), ", "),
                     names.back());
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

AllowedDTypes Contract::allowed_dtypes(Elements elements) const {
  AllowedDTypes allowed;
  const auto allow = [&](DType dtype) { allowed.add(dtype); };
  const auto allow_quantised = [&] {
    allow(DType::kI8);
    if (device_.is_cpu()) allow(DType::kF8E4M3);
  };
  switch (elements) {
    case Elements::kActivation:
      allow(activation_dtype_);
      break;
    case Elements::kF32:
      allow(DType::kF32);
      break;
    case Elements::kI32:
      allow(DType::kI32);
      break;
    case Elements::kU8:
      allow(DType::kU8);
      break;
    case Elements::kF32OrActivation:
      allow(DType::kF32);
      allow(activation_dtype_);
      break;
    case Elements::kF32OrMatrix:
      allow(DType::kF32);
      [[fallthrough]];
    case Elements::kMatrix:
      allow(activation_dtype_);
      if (device_.is_cpu()) allow(DType::kBF16);
      break;
    case Elements::kRows:
      allow(activation_dtype_);
      allow_quantised();
      break;
    case Elements::kProductMatrix:
      allow(activation_dtype_);
      if (device_.is_cpu()) allow(DType::kBF16);
      allow_quantised();
      break;
    case Elements::kCache:
      allow(activation_dtype_);
      allow(DType::kF8E4M3);
      break;
    case Elements::kAny:
      break;
  }
  return allowed;
}

void Contract::require_dtype(const char* name, DType found, Elements elements) const {
  const AllowedDTypes allowed = allowed_dtypes(elements);
  if (allowed.all().empty() || allowed.contains(found)) return;
  fail("{}: {} is {}, wanted {}", op_, name, dtype_name(found), describe(allowed.all()));
}

void Contract::product(const MatrixView& x, const MatrixView& weight) const {
  if (!x.is_quantised() && !weight.is_quantised()) return;
  if (x.dtype() == weight.dtype()) return;
  fail("{}: x is {}, the weight {}", op_, dtype_name(x.dtype()), dtype_name(weight.dtype()));
}

void Contract::operand(const char* name, Role role, const TensorView& tensor) const {
  if (!tensor && role.is_optional) return;
  require(static_cast<bool>(tensor), std::string(name) + " is missing");
  if (role.place == Place::kHost) {
    require(tensor.device().is_cpu(), std::string(name) + " is not on the host");
  } else {
    require(tensor.device() == device_, std::string(name) + " is on another device");
  }
  require_dtype(name, tensor.dtype(), role.elements);
}

void Contract::operand(const char* name, Role role, const MatrixView& matrix) const {
  if (!matrix.is_stored()) {
    operand(name, role, matrix.values());
    if (!matrix.is_quantised()) return;
    const Role of_scales{.access = role.access, .elements = Elements::kF32};
    const std::string scales_name = std::string("scales of ") + name;
    operand(scales_name.c_str(), of_scales, matrix.scales());
    return shape(scales_name.c_str(), matrix.scales(), {matrix.dim(0)});
  }
  require_dtype(name, matrix.dtype(), Elements::kMatrix);
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
