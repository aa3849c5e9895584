// Heads of tokens, as attention reads them.
#pragma once

#include "tensor/tensor.h"

namespace mochi {

// Heads of tokens, [heads, tokens, head_dim]. The storage is a tensor of that shape or a range of
// columns of a matrix [tokens, row], head next to head, as a projection wrote them.
struct HeadsView {
  HeadsView() = default;
  HeadsView(const TensorView& heads) : tensor(heads), shape(heads.shape()) {}  // NOLINT: implicit
  HeadsView(const Tensor& heads) : HeadsView(heads.view()) {}                  // NOLINT: implicit
  // Selects columns [first_column, first_column + num_heads·head_dim) of `matrix`.
  HeadsView(const TensorView& matrix, std::int64_t num_heads, std::int64_t head_dim,
            std::int64_t first_column = 0)
      : tensor(matrix),
        shape{num_heads, matrix.dim(0), head_dim},
        first(first_column),
        are_columns(true) {}

  operator const TensorView&() const { return tensor; }  // NOLINT: implicit

  explicit operator bool() const { return static_cast<bool>(tensor); }
  std::size_t size_bytes() const {  // counts the heads alone
    return static_cast<std::size_t>(shape.num_elements()) * dtype_bytes(tensor.dtype());
  }
  std::int64_t dim(int index) const { return shape[index]; }
  // The head_dim elements of head h and token t begin at first + h·head_stride() +
  // t·token_stride().
  std::int64_t head_stride() const { return are_columns ? dim(2) : dim(1) * dim(2); }
  std::int64_t token_stride() const { return are_columns ? tensor.dim(1) : dim(2); }

  TensorView tensor;
  Shape shape;  // [heads, tokens, head_dim]
  std::int64_t first = 0;
  bool are_columns = false;
};

}  // namespace mochi
