// State that the CPU backend keeps for oneDNN. Only .cpp files of this folder include this header.
#pragma once

#include <dnnl.hpp>
#include <map>
#include <tuple>

#include "backend/backend.h"

namespace mochi::cpu {

struct OneDnn {
  // Rows and columns of a tile, in_features, out_features, has bf16 operands, has bias, activation,
  // accumulates.
  using LinearKey = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, bool, bool,
                               Activation, bool>;

  struct Linear {
    dnnl::matmul primitive;
    dnnl::memory::desc scratchpad;
  };

  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<LinearKey, Linear> linears;  // building one costs more than a small matmul
  Tensor bf16_input;                    // grows on demand; the rounded left operand
  Tensor f32_weight;  // grows on demand; the widened right operand without bf16 matmuls
};

// Returns true if the processor multiplies bf16 matrices faster than f32 ones, which needs AMX
// tiles. (With AVX-512's bf16 dot products alone, bf16 ran at about half of f32's rate.)
inline bool prefers_bf16() {
  return dnnl::get_effective_cpu_isa() == dnnl::cpu_isa::avx512_core_amx;
}

// Returns true if oneDNN has bf16 matmuls for this processor.
inline bool has_bf16() {
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  return isa == dnnl::cpu_isa::avx512_core || isa == dnnl::cpu_isa::avx512_core_vnni ||
         isa == dnnl::cpu_isa::avx512_core_bf16 || isa == dnnl::cpu_isa::avx512_core_amx;
}

}  // namespace mochi::cpu
