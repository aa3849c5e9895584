// Rows of an output that may be quantised.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/cpu/pointers.h"
#include "tensor/matrix_view.h"
#include "tensor/row_quantisation.h"

namespace mochi::cpu {

// Calls fill(row of floats) for row `row` of `out`, and quantises what it wrote if `out` is
// quantised.
template <typename Fill>
void write_row(const MatrixView& out, std::int64_t row, Fill fill) {
  const auto width = static_cast<std::size_t>(out.dim(1));
  if (!out.is_quantised()) {
    fill(data(out.values()) + row * out.dim(1));
    return;
  }
  thread_local std::vector<float> values;
  values.resize(width);
  fill(values.data());
  data(out.scales())[row] =
      quantise_row(out.dtype(), values, {out.values().bytes() + row * out.dim(1), width});
}

}  // namespace mochi::cpu
