// Fields of operations: what an operation reads, writes and is told. An operation is a struct of
// these (see backend.h). Its `visit` lists the fields once, each by `f(name, field)`; for a member
// of a group, such as AttentionDelta, by `f(name, role, view)`. Checks, profiles and mirrors are
// visitors.
#pragma once

#include <cstdint>
#include <type_traits>

#include "tensor/matrix_view.h"
#include "tensor/tensor.h"

namespace mochi {

enum class Access : std::uint8_t {
  kRead,
  kWrite,   // whole or in part; what is not written is kept
  kUpdate,  // read, and written
};

// Dtypes that an operand may have.
enum class Elements : std::uint8_t {
  kActivation,
  kF32,
  kI32,
  kU8,
  kMatrix,         // F32 or BF16 on the CPU, the activation dtype on a GPU
  kRows,           // the activation dtype; I8 or F8_E4M3 with a scale for each row
  kProductMatrix,  // as kMatrix; I8 or F8_E4M3 with a scale for each row
  kF32OrActivation,
  kF32OrMatrix,
  kCache,  // the activation dtype or F8_E4M3
  kAny,
};

enum class Place : std::uint8_t { kDevice, kHost };

// How an operation uses one of its tensors.
struct Role {
  Access access = Access::kRead;
  Elements elements = Elements::kActivation;
  bool is_optional = false;  // may be empty
  Place place = Place::kDevice;

  constexpr bool is_written() const { return access != Access::kRead; }
};

constexpr Role optional(Role role) {
  role.is_optional = true;
  return role;
}

// A tensor of an operation, with its role as a type. Only optional ones can be left out.
template <Access A, Elements E, bool kIsOptional = false, Place P = Place::kDevice>
struct Operand : TensorView {
  Operand()
    requires kIsOptional
  = default;
  Operand(const TensorView& view) : TensorView(view) {}         // NOLINT: implicit
  Operand(const Tensor& tensor) : TensorView(tensor.view()) {}  // NOLINT: implicit
  static constexpr Role kRole{A, E, kIsOptional, P};
};

using In = Operand<Access::kRead, Elements::kActivation>;
using Out = Operand<Access::kWrite, Elements::kActivation>;
using InOut = Operand<Access::kUpdate, Elements::kActivation>;
using OptionalIn = Operand<Access::kRead, Elements::kActivation, true>;
using OptionalOut = Operand<Access::kWrite, Elements::kActivation, true>;
using InF32 = Operand<Access::kRead, Elements::kF32>;
using OutF32 = Operand<Access::kWrite, Elements::kF32>;
using InOutF32 = Operand<Access::kUpdate, Elements::kF32>;
using OptionalInF32 = Operand<Access::kRead, Elements::kF32, true>;
using InI32 = Operand<Access::kRead, Elements::kI32>;
using OutI32 = Operand<Access::kWrite, Elements::kI32>;
using OptionalInI32 = Operand<Access::kRead, Elements::kI32, true>;
// A matrix weight that is always dense. Weights that may be stored in a smaller type are InMatrix.
using InDenseMatrix = Operand<Access::kRead, Elements::kMatrix>;

// A matrix weight. The backend widens it before the operation, which sees dense() alone.
struct InMatrix : MatrixView {
  InMatrix(const MatrixView& matrix) : MatrixView(matrix) {}  // NOLINT: implicit
  InMatrix(const TensorView& dense) : MatrixView(dense) {}    // NOLINT: implicit
  InMatrix(const Tensor& dense) : MatrixView(dense) {}        // NOLINT: implicit
  const TensorView& dense() const { return values(); }
};

// Such a weight, or one that is quantised for 8-bit products.
struct InProductMatrix : InMatrix {
  using InMatrix::InMatrix;
};

// Rows of activations, dense or quantised for an 8-bit product.
template <Access A, bool kIsOptional = false>
struct RowsOperand : MatrixView {
  RowsOperand()
    requires kIsOptional
  = default;
  RowsOperand(const MatrixView& rows) : MatrixView(rows) {}    // NOLINT: implicit
  RowsOperand(const TensorView& dense) : MatrixView(dense) {}  // NOLINT: implicit
  RowsOperand(const Tensor& dense) : MatrixView(dense) {}      // NOLINT: implicit
  static constexpr Role kRole{A, Elements::kRows, kIsOptional};
};
using InRows = RowsOperand<Access::kRead>;
using OutRows = RowsOperand<Access::kWrite>;
using OptionalOutRows = RowsOperand<Access::kWrite, true>;

// A matrix weight as it is stored.
struct InStored : MatrixView {
  InStored(const MatrixView& matrix) : MatrixView(matrix) {}  // NOLINT: implicit
};

namespace detail {

// Turns `f(name, operand)` into `f(name, role, view)`.
template <class F, bool kIsConst>
struct RoleAdder {
  F& f;

  void operator()(const char* name, auto& field) const {
    using Field = std::remove_cvref_t<decltype(field)>;
    if constexpr (requires { Field::kRole; }) {
      using Base = std::conditional_t<std::is_base_of_v<MatrixView, Field>, MatrixView, TensorView>;
      using View = std::conditional_t<kIsConst, const Base, Base>;
      f(name, Field::kRole, static_cast<View&>(field));
    } else if constexpr (std::is_same_v<InProductMatrix, Field>) {
      using View = std::conditional_t<kIsConst, const InMatrix, InMatrix>;
      f(name, Role{.elements = Elements::kProductMatrix}, static_cast<View&>(field));
    } else if constexpr (std::is_base_of_v<MatrixView, Field>) {
      f(name, Role{.elements = Elements::kMatrix}, field);
    } else {
      f(name, field);
    }
  }
  void operator()(const char* name, Role role, auto& view) const { f(name, role, view); }
};

}  // namespace detail

// Calls `f(name, role, view)` for each tensor of `op`, with a TensorView, HeadsView, MatrixView,
// InMatrix or InStored, and `f(name, value)` for everything else.
template <class Op, class F>
void visit_fields(Op& op, F&& f) {
  const detail::RoleAdder<std::remove_reference_t<F>, std::is_const_v<Op>> adder{f};
  std::remove_const_t<Op>::visit(op, adder);
}

}  // namespace mochi
