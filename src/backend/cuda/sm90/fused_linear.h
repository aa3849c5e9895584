// Matmuls of BF16 or I8 matrices on Hopper, x [rows, k] · weight [n, k]ᵀ, with fused epilogues. An
// epilogue costs next to nothing, where a separate operation would be bound by the bandwidth.
// Roundings are the same as with two operations.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "backend/ops/dense.h"

namespace mochi::cuda::sm90 {

// Scales of operands in I8; none for BF16. A sum is multiplied by those of its row and its column
// before anything else happens to it.
struct LinearScales {
  const float* g_x = nullptr;       // [rows]
  const float* g_weight = nullptr;  // [n]
  std::int64_t rows = 0, n = 0;

  bool are_given() const { return g_x != nullptr; }
};

// Operands in I8 alone.
struct LinearParams {
  const void* g_x;       // [rows, k]
  const void* g_weight;  // [n, k]
  LinearScales scales;
  void* g_out;  // [rows, n] bf16
  std::int64_t rows, n, k;
};

struct GatedLinearParams {
  const void* g_x;       // [rows, k] bf16 or i8
  const void* g_weight;  // [2·features, k] of the same: the rows of a, then those of b
  LinearScales scales;
  void* g_out;  // [rows, features] bf16 = act(a)·b
  std::int64_t rows, k, features;
  Activation activation;
};

struct QkvLinearParams {
  const void* g_x;       // [tokens, k] bf16 or i8
  const void* g_weight;  // [3·heads·head_dim, k] of the same: the rows of q, k, v
  LinearScales scales;
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
bool suits_linear(const LinearParams& params);
bool suits_gated_linear(const GatedLinearParams& params);
bool suits_qkv_linear(const QkvLinearParams& params);

void launch_linear(const LinearParams& params, int num_multiprocessors, cudaStream_t stream);
void launch_gated_linear(const GatedLinearParams& params, int num_multiprocessors,
                         cudaStream_t stream);
void launch_qkv_linear(const QkvLinearParams& params, int num_multiprocessors, cudaStream_t stream);

}  // namespace mochi::cuda::sm90
