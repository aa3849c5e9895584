// Dense attention on Hopper (docs/kernels/attention.md), also together with column sums
// (docs/kernels/column-sums.md).
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "backend/cuda/common/head_rows.cuh"

namespace mochi::cuda::sm90 {

inline constexpr std::int64_t kAttentionHeadDim = 128;

struct DenseAttentionParams {
  HeadRows<__nv_bfloat16> q, k, v;  // they have num_queries, num_keys and num_keys tokens
  __nv_bfloat16* g_out;             // [num_queries, heads·128]
  float* g_lse;                     // [heads, num_queries], or null
  std::int64_t heads;               // each ≥ 1
  std::int64_t num_queries;
  std::int64_t num_keys;
  float scale;  // > 0
};

// Returns true for the group sizes whose column sums are computed in one pass with the attention.
constexpr bool has_sums_in_one_pass(std::int64_t group_size) {
  return group_size == 192 || group_size == 128 || group_size == 64;
}

// Column sums (see backend.h) to be computed together with the attention.
struct AttentionSumsParams {
  const float* g_former_lse;  // [heads, num_queries]
  float* g_sums;              // [heads, ⌈num_queries / group_size⌉, num_keys]
  std::int64_t group_size;    // see has_sums_in_one_pass()
  std::int64_t query_stride;
  std::int32_t* g_scratch;  // [num_sums_scratch(attention)]
};

// All data and all rows of q, k and v are aligned to 16 bytes. num_multiprocessors is that of the
// current GPU.
void launch_attention(const DenseAttentionParams& params, int num_multiprocessors,
                      cudaStream_t stream);
void launch_attention_with_sums(const DenseAttentionParams& params, const AttentionSumsParams& sums,
                                int num_multiprocessors, cudaStream_t stream);
std::int64_t num_sums_scratch(const DenseAttentionParams& params);

}  // namespace mochi::cuda::sm90
