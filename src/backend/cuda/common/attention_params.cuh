// Parameters of all attention kernels, and the final computation of their results.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cstdint>

#include "backend/cuda/common/head_rows.cuh"
#include "backend/ops/attention.h"

namespace mochi::cuda {

constexpr float kLog2E = 1.44269504F;
constexpr float kLn2 = 0.693147181F;

// Queries are divided into groups. Without columns, all queries form one group that sees all keys.
template <typename T>
struct AttentionParams {
  HeadRows<T> q, k, v;            // they have num_queries, num_keys and num_keys tokens
  const float* g_bias;            // [heads, num_queries, num_keys], or null
  T* g_out;                       // [num_queries, heads·head_dim]
  float* g_lse;                   // [heads, num_queries], or null
  const std::int32_t* g_offsets;  // [heads·num_groups + 1], or null
  const std::int32_t* g_columns;  // [g_offsets[heads·num_groups]]
  const void* g_cache;            // [num_queries, heads·head_dim] of T or F8_E4M3; may be null
  const float* g_cache_scale;     // [heads, num_queries] for an F8_E4M3 cache, else null
  const float* g_weight;          // [heads, num_queries], or null
  float scale, follow;
  int num_heads, num_queries, num_keys, head_dim, num_groups, group_size;
  bool is_merged;

  __device__ std::int64_t row_of(int head, int query) const {
    return static_cast<std::int64_t>(head) * num_queries + query;
  }
  __device__ std::int64_t out_of(int head, int query) const {
    return (static_cast<std::int64_t>(query) * num_heads + head) * head_dim;
  }
};

template <typename T>
AttentionParams<T> make_params(const AttentionInputs& in, const AttentionOutputs& to,
                               const ColumnLists& columns = {}, const AttentionDelta& delta = {}) {
  const auto num_queries = static_cast<int>(in.q.dim(1));
  const auto group_size =
      columns.offsets ? static_cast<int>(std::min<std::int64_t>(columns.group_size, num_queries))
                      : num_queries;
  return {.q = rows_of<T>(in.q),
          .k = rows_of<T>(in.k),
          .v = rows_of<T>(in.v),
          .g_bias = data_of<const float>(in.bias),
          .g_out = data_of<T>(to.out),
          .g_lse = data_of<float>(to.lse),
          .g_offsets = data_of<const std::int32_t>(columns.offsets),
          .g_columns = data_of<const std::int32_t>(columns.columns),
          .g_cache = delta.cache.bytes(),
          .g_cache_scale = data_of<const float>(delta.cache_scale),
          .g_weight = data_of<const float>(delta.weight),
          .scale = in.scale,
          .follow = delta.follow,
          .num_heads = static_cast<int>(in.q.dim(0)),
          .num_queries = num_queries,
          .num_keys = static_cast<int>(in.k.dim(1)),
          .head_dim = static_cast<int>(in.q.dim(2)),
          .num_groups = (num_queries + group_size - 1) / group_size,
          .group_size = group_size,
          .is_merged = delta.is_merged};
}

// The queries and keys of one thread block.
struct BlockTask {
  int head, first_query, num_queries;
  const std::int32_t* g_columns;  // [num_keys], or null for all keys
  int num_keys;
};

// Returns the task of block blockIdx.x, which has up to kQueries queries of one group, and head
// blockIdx.y.
template <int kQueries, typename T>
__device__ BlockTask find_task(const AttentionParams<T>& p) {
  const int tiles_per_group = (p.group_size + kQueries - 1) / kQueries;
  const auto group = static_cast<int>(blockIdx.x) / tiles_per_group;
  const int first = static_cast<int>(blockIdx.x) % tiles_per_group * kQueries;
  const auto head = static_cast<int>(blockIdx.y);
  const int group_begin = group * p.group_size;
  const int group_end = min(group_begin + p.group_size, p.num_queries);
  BlockTask task{head, group_begin + first, min(kQueries, group_end - group_begin - first), nullptr,
                 p.num_keys};
  if (p.g_offsets != nullptr) {
    const std::int32_t* g_offset = p.g_offsets + head * p.num_groups + group;
    task.g_columns = p.g_columns + g_offset[0];
    task.num_keys = g_offset[1] - g_offset[0];
  }
  return task;
}

template <int kQueries, typename T>
unsigned count_blocks(const AttentionParams<T>& p) {
  return static_cast<unsigned>(p.num_groups * ((p.group_size + kQueries - 1) / kQueries));
}

// Factors of the computed attention and of the cache in the output.
struct Shares {
  float chosen = 1.0F, cached = 0.0F;
};

template <typename T>
__device__ Shares find_shares(const AttentionParams<T>& p, std::int64_t row, float lse) {
  if (p.g_cache == nullptr) return {};
  const float scale = p.g_cache_scale == nullptr ? 1.0F : p.g_cache_scale[row];
  if (p.g_weight == nullptr) return {1.0F, scale};
  const float weight = p.g_weight[row];
  if (!p.is_merged) return {weight, scale};
  const float chosen = 1.0F / (1.0F + expf(weight + p.follow * lse - lse));
  return {chosen, (1.0F - chosen) * scale};
}

// Computes any head_dim, scale and dtype, in fp32.
template <typename T>
void attend_simply(const AttentionParams<T>& params, cudaStream_t stream);

// Parameters of column sums, out [heads, groups, num_keys] f32.
struct ColumnSumsParams {
  const float* g_lse;  // [heads, num_queries]
  float* g_sums;       // [heads, num_groups, num_keys]
  int group_size, num_groups, query_stride;

  // Returns the number of the group's queries that are counted.
  __device__ int num_rows(int group, int num_queries) const {
    const int size = min(group_size, num_queries - group * group_size);
    return (size + query_stride - 1) / query_stride;
  }
  __device__ int query_of(int group, int row) const {
    return group * group_size + row * query_stride;
  }
};

template <typename T>
void sum_columns_simply(const AttentionParams<T>& params, const ColumnSumsParams& sums,
                        cudaStream_t stream);

}  // namespace mochi::cuda
