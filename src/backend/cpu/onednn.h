// What the CPU backend keeps of oneDNN. Included by .cpp files of this folder alone.
#pragma once

#include <dnnl.hpp>
#include <map>
#include <tuple>

#include "backend/backend.h"

namespace mochi::cpu {

struct OneDnn {
  // A tile's rows and columns, in_features, out_features, bf16 operands?, bias?, activation,
  // accumulate?
  using LinearKey = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, bool, bool,
                               Activation, bool>;

  struct Linear {
    dnnl::matmul primitive;
    dnnl::memory::desc scratchpad;
  };

  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<LinearKey, Linear> linears;  // building one costs more than a small product
  Tensor bf16_input;                    // grown on demand; holds the rounded left operand
  Tensor f32_weight;  // grown on demand; where bf16 products are not there, holds the right one
};

// Whether the processor multiplies bf16 matrices faster than f32 ones: only with AMX tiles.
// (With AVX-512's bf16 dot products alone, bf16 ran at about half of f32's rate.)
inline bool prefers_bf16() {
  return dnnl::get_effective_cpu_isa() == dnnl::cpu_isa::avx512_core_amx;
}

// Whether oneDNN has bf16 matrix products for this processor at all.
inline bool has_bf16() {
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  return isa == dnnl::cpu_isa::avx512_core || isa == dnnl::cpu_isa::avx512_core_vnni ||
         isa == dnnl::cpu_isa::avx512_core_bf16 || isa == dnnl::cpu_isa::avx512_core_amx;
}

}  // namespace mochi::cpu
