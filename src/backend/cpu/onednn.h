// State that the CPU backend keeps for oneDNN. Only .cpp files of this folder include this header.
// Every call of oneDNN is made within a SerialScope: its own threads would spin at barriers, which
// is ruinous where another program uses a processor, so parallel_for divides the work instead.
#pragma once

#include <dnnl.hpp>
#include <map>
#include <string>
#include <tuple>

#include "backend/backend.h"

namespace mochi::cpu {

struct OneDnn {
  // Rows and columns of a tile, in_features, out_features, dtype of the operands, has bias,
  // activation, accumulates.
  using LinearKey = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, DType, bool,
                               Activation, bool>;

  struct Linear {
    dnnl::matmul primitive;
    dnnl::memory::desc scratchpad;
  };

  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  std::map<LinearKey, Linear> linears;  // building one costs more than a small matmul
  Tensor bf16_input;                    // grows on demand; the rounded left operand
  // Grow on demand: widened operands, where there are no matmuls of their own type.
  Tensor f32_input, f32_weight;
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

// Returns true if oneDNN sums products of I8 exactly. Older instructions saturate sums of two at 16
// bits.
inline bool sums_i8_exactly() {
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  return isa == dnnl::cpu_isa::avx512_core_vnni || isa == dnnl::cpu_isa::avx512_core_bf16 ||
         isa == dnnl::cpu_isa::avx512_core_amx || isa == dnnl::cpu_isa::avx2_vnni;
}

// Throws OutOfMemory unless there is room for oneDNN to make a primitive: where the memory for its
// generated code is refused, it writes to address 0.
void check_room_for_primitive();

// Writes the elements of `from` to `to` in the float type of `to`.
void convert_elements(const dnnl::engine& engine, const TensorView& from, const TensorView& to);

// A convolution's weights in the layout that a primitive wants.
Tensor arrange_weights(const dnnl::engine& engine, const dnnl::memory& weights,
                       const dnnl::memory::desc& wanted);

// Throws what failed as Error, or as OutOfMemory where that was the reason.
[[noreturn]] void fail_as(const dnnl::error& error, const std::string& operation);

}  // namespace mochi::cpu
