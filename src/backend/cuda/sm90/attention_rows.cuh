// The softmax of one warpgroup's 64 queries, whose logits and outputs are in registers in wgmma's
// layout: each thread has parts of two rows (see device/wgmma.cuh).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "backend/cuda/device/mma.cuh"
#include "backend/cuda/device/threads.cuh"

namespace mochi::cuda::sm90 {

// The running state of the two rows. A row is distributed over the four threads of a quad: `max` is
// the whole row's, `sum` covers this thread's columns only.
struct RowState {
  // Maximum of the unscaled logits, up to kSlack below the true one.
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0.0F, 0.0F};  // Σ exp(scale · (logit − max))
};

__device__ inline float max_of_quad(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}

__device__ inline float sum_of_quad(float x) {
  x += __shfl_xor_sync(0xffffffff, x, 1);
  return x + __shfl_xor_sync(0xffffffff, x, 2);
}

// Sets the logits of columns from num_valid on to −∞.
template <int kSize>
__device__ inline void mask_columns(float (&logits)[kSize], int num_valid) {
  const int first = 2 * (device::thread_idx_here() % 4);
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    if (first + i / 4 * 8 + i % 2 >= num_valid) logits[i] = -INFINITY;
  }
}

// A maximum is kept as long as no weight relative to it would exceed 2^kSlack. Sums and products in
// f32 have room for that, and the output needs fewer multiplications.
constexpr float kSlack = 8.0F;

// Computes the highest of this thread's logits in each of its two rows.
template <int kSize>
__device__ inline void find_highest(const float (&logits)[kSize], float (&highest)[2]) {
  // Chains per row; in a single chain every step would wait for the one before.
  constexpr int kChains = 4;
  float max[2][kChains];
#pragma unroll
  for (int i = 0; i < kSize; i += 2) {
    const int row = i / 2 % 2;
    const int chain = i / 4 % kChains;
    const float pair = fmaxf(logits[i], logits[i + 1]);
    max[row][chain] = i / 4 < kChains ? pair : fmaxf(max[row][chain], pair);
  }
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    highest[row] = fmaxf(fmaxf(max[row][0], max[row][1]), fmaxf(max[row][2], max[row][3]));
  }
}

// Returns true if the maximum of any of the warp's rows must rise; `offset` is
// −scale_log2 · maximum.
__device__ inline bool must_rise(const float (&highest)[2], float scale_log2,
                                 const float (&offset)[2]) {
  return __any_sync(0xffffffff, fmaf(highest[0], scale_log2, offset[0]) > kSlack ||
                                    fmaf(highest[1], scale_log2, offset[1]) > kSlack);
}

// Raises the maxima to `highest`. Everything computed relative to the old maxima must then be
// multiplied by `shrink`.
__device__ inline void raise_max(const float (&highest)[2], float scale_log2, RowState& state,
                                 float (&shrink)[2], float (&offset)[2]) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const float raised = fmaxf(state.max[row], max_of_quad(highest[row]));
    shrink[row] = device::exp2_fast((state.max[row] - raised) * scale_log2);
    state.max[row] = raised;
    state.sum[row] *= shrink[row];
    offset[row] = -raised * scale_log2;
  }
}

// Turns logits [kFrom, kTo) into weights exp2(scale_log2 · logit + offset) and adds them to the
// sums.
template <int kFrom, int kTo, int kSize>
__device__ inline void exponentiate(float (&logits)[kSize], float scale_log2,
                                    const float (&offset)[2], RowState& state) {
#pragma unroll
  for (int i = kFrom; i < kTo; ++i) {
    const int row = i / 2 % 2;
    logits[i] = device::exp2_fast(fmaf(logits[i], scale_log2, offset[row]));
    state.sum[row] += logits[i];
  }
}

template <int kSize>
__device__ inline void multiply_rows(float (&values)[kSize], const float (&factors)[2]) {
#pragma unroll
  for (int i = 0; i < kSize; ++i) values[i] *= factors[i / 2 % 2];
}

// Packs values as wgmma's operand `a`: four registers for every 16 columns.
template <int kFrom, int kTo, int kSize>
__device__ inline void pack_rows(const float (&values)[kSize],
                                 std::uint32_t (&packed)[kSize / 8][4]) {
#pragma unroll
  for (int i = kFrom; i < kTo; i += 2) {
    packed[i / 8][i / 2 % 4] = device::pack_bf16(values[i], values[i + 1]);
  }
}

}  // namespace mochi::cuda::sm90
