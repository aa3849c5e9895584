// How a source implements operations: for each it defines run(Gpu&, const ops::X&) and instantiates
// compute() explicitly. A missing operation is an error of the linker. Where one operation is a
// step of another, an `extern template` declares that a different source implements it.
#pragma once

#include "backend/cuda/gpu.h"

namespace mochi::cuda {

template <class Op>
void compute(Gpu& gpu, const Op& op) {
  run(gpu, op);
}

}  // namespace mochi::cuda
