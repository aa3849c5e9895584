// Products of BF16 matrices on Hopper, x [rows, k] · weight [n, k]ᵀ, whose results are worked on
// before they leave the multiprocessor: what would follow as an operation of its own, bound by
// bandwidth, costs next to nothing there. Roundings are those of two operations.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "backend/op_parameters.h"

namespace mochi::cuda::sm90 {

struct GatedLinearParams {
  const void* g_x;       // [rows, k] bf16
  const void* g_weight;  // [2·features, k] bf16: of a, then of b
  void* g_out;           // [rows, features] bf16 = act(a)·b
  std::int64_t rows, k, features;
  Activation activation;
};

struct QkvLinearParams {
  const void* g_x;          // [tokens, k] bf16
  const void* g_weight;     // [3·heads·head_dim, k] bf16: of q, k, v
  const float* g_q_weight;  // [head_dim] of the RMS norm
  const float* g_k_weight;
  const float* g_cos;  // [tokens, heads, head_dim / 2], or null: no rotation
  const float* g_sin;
  void* g_q;  // [heads, total, head_dim] bf16, of which rows [offset, offset + tokens) are written
  void* g_k;
  void* g_v;
  std::int64_t tokens, k, offset, total, heads, head_dim;
  float eps;
};

// Whether sizes and alignment allow the launch.
bool suits_gated_linear(const GatedLinearParams& params);
bool suits_qkv_linear(const QkvLinearParams& params);

void launch_gated_linear(const GatedLinearParams& params, int num_multiprocessors,
                         cudaStream_t stream);
void launch_qkv_linear(const QkvLinearParams& params, int num_multiprocessors, cudaStream_t stream);

}  // namespace mochi::cuda::sm90
