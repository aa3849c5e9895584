// What the CPU backend keeps of oneDNN. Included by .cpp files of this folder alone.
#pragma once

#include <dnnl.hpp>
#include <map>
#include <tuple>

#include "backend/backend.h"

namespace mochi::cpu {

struct OneDnn {
  // rows, out_features, in_features, bf16 operands?, bias?, activation, accumulate?
  using LinearKey =
      std::tuple<std::int64_t, std::int64_t, std::int64_t, bool, bool, Activation, bool>;

  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<LinearKey, dnnl::matmul>
      linears;        // building a primitive costs more than a small product
  Tensor bf16_input;  // grown on demand; holds the rounded left operand
};

// Whether the processor multiplies bf16 matrices faster than f32 ones: only with AMX tiles.
// (With AVX-512's bf16 dot products alone, bf16 ran at about half of f32's rate.)
inline bool prefers_bf16() {
  return dnnl::get_effective_cpu_isa() == dnnl::cpu_isa::avx512_core_amx;
}

}  // namespace mochi::cpu
