// Dense attention on Hopper: docs/kernels/attention.md has the design and its numbers.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace mochi::cuda::sm90 {

inline constexpr std::int64_t kAttentionHeadDim = 128;

struct AttentionParams {
  const __nv_bfloat16* g_q;  // [heads, num_queries, 128]
  const __nv_bfloat16* g_k;  // [heads, num_keys, 128]
  const __nv_bfloat16* g_v;  // [heads, num_keys, 128]
  __nv_bfloat16* g_out;      // [num_queries, heads·128]
  float* g_lse;              // [heads, num_queries], or null
  std::int64_t heads;        // each ≥ 1
  std::int64_t num_queries;
  std::int64_t num_keys;
  float scale;  // > 0
};

// Computes on `stream` of device 0. All data is aligned to 16 bytes.
void launch_attention(const AttentionParams& params, cudaStream_t stream);

}  // namespace mochi::cuda::sm90
