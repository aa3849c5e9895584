// Operands in I8, for the operations that take or write them.
#pragma once

#include "backend/cuda/gpu.h"
#include "backend/cuda/sm90/fused_linear.h"

namespace mochi::cuda {

// Quantises rows of activations [rows, width].
void launch_quantise(Gpu& gpu, const TensorView& x, const MatrixView& out);

// Computes a product of operands in I8.
void multiply_quantised(Gpu& gpu, const ops::Linear& op);

// Returns the scales of a product's operands; none if they are not quantised.
sm90::LinearScales scales_of(const MatrixView& x, const MatrixView& weight);

// Calls compute(rows) with dense rows: `out` itself, or memory of this operation, from which `out`
// is quantised.
template <typename Compute>
void write_rows(Gpu& gpu, const MatrixView& out, Compute compute) {
  if (!out.is_quantised()) return compute(out.values());
  const std::size_t num_bytes =
      static_cast<std::size_t>(out.num_elements()) * dtype_bytes(gpu.activation_dtype());
  const TensorView dense(gpu.workspace(num_bytes), gpu.activation_dtype(), out.shape(),
                         gpu.device());
  compute(dense);
  launch_quantise(gpu, dense, out);
}

}  // namespace mochi::cuda
