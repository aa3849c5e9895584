// Matmuls of BF16 matrices on Hopper, x [rows, k] · weight [n, k]ᵀ, with fused epilogues. What
// would otherwise be a separate, bandwidth-bound operation costs next to nothing there. Roundings
// are the same as with two operations.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "backend/ops/dense.h"

namespace mochi::cuda::sm90 {

struct GatedLinearParams {
  const void* g_x;       // [rows, k] bf16
  const void* g_weight;  // [2·features, k] bf16: the rows of a, then those of b
  void* g_out;           // [rows, features] bf16 = act(a)·b
  std::int64_t rows, k, features;
  Activation activation;
};

struct QkvLinearParams {
  const void* g_x;          // [tokens, k] bf16
  const void* g_weight;     // [3·heads·head_dim, k] bf16: the rows of q, k, v
  const float* g_q_weight;  // [head_dim] weight of the RMS norm
  const float* g_k_weight;
  const float* g_cos;  // [tokens, heads, head_dim / 2], or null for no rotation
  const float* g_sin;
  void* g_q;  // [heads, total, head_dim] bf16; rows [offset, offset + tokens) are written
  void* g_k;
  void* g_v;
  std::int64_t tokens, k, offset, total, heads, head_dim;
  float eps;
};

// Return true if the launch supports these sizes and alignments.
bool suits_gated_linear(const GatedLinearParams& params);
bool suits_qkv_linear(const QkvLinearParams& params);

void launch_gated_linear(const GatedLinearParams& params, int num_multiprocessors,
                         cudaStream_t stream);
void launch_qkv_linear(const QkvLinearParams& params, int num_multiprocessors, cudaStream_t stream);

}  // namespace mochi::cuda::sm90
