// Attention in fp32 for every head_dim and dtype: used by the F32 backend, and by the BF16 backend
// if no faster kernel fits. Tiles of 64 queries by 64 keys with a running softmax.
#include "backend/cuda/common/attention_params.cuh"
#include "backend/cuda/common/float8.cuh"
#include "backend/cuda/kernels/simple_tiles.cuh"

namespace mochi::cuda {
namespace {

using simple::kFeatures;
using simple::kPer;
using simple::kSide;
using simple::kThreads;
using simple::kTile;
using simple::SharedTiles;
using simple::thread_x;
using simple::thread_y;

// Returns the rows of a head from a token on.
template <typename T>
__device__ simple::Rows<T> rows_from(const HeadRows<T>& heads, int head, int first_token = 0) {
  return {heads.of(head, first_token), heads.token_stride};
}

// A thread's part of the running softmax of its rows, and their outputs before the division by the
// sums.
struct RunningRows {
  float max[kPer], sum[kPer];
  simple::Sums out;
};

// Turns one row's logits into weights and corrects the earlier results.
__device__ void add_to_softmax(float (&logits)[kPer], RunningRows& rows, int i) {
  float new_max = rows.max[i];
  for (const float logit : logits) new_max = fmaxf(new_max, logit);
  for (int lane = kSide / 2; lane > 0; lane /= 2) {
    new_max = fmaxf(new_max, __shfl_xor_sync(~0U, new_max, lane));
  }
  const float correction = expf(rows.max[i] - new_max);
  rows.max[i] = new_max;
  rows.sum[i] *= correction;
  for (float& logit : logits) {
    logit = expf(logit - new_max);
    rows.sum[i] += logit;
  }
  for (float& out : rows.out[i]) out *= correction;
}

template <typename T>
__device__ float load_cached(const AttentionParams<T>& p, std::int64_t at) {
  if (p.g_cache_scale == nullptr) {
    return static_cast<float>(static_cast<const T*>(p.g_cache)[at]);
  }
  return unpack_one_f8(static_cast<const std::uint8_t*>(p.g_cache)[at]);
}

template <typename T>
__device__ void write_rows(const AttentionParams<T>& p, const BlockTask& task, int first_feature,
                           RunningRows& rows) {
  for (int i = 0; i < kPer; ++i) {
    float sum = rows.sum[i];
    for (int lane = kSide / 2; lane > 0; lane /= 2) sum += __shfl_xor_sync(~0U, sum, lane);
    if (thread_y() * kPer + i >= task.num_queries) continue;
    const int query = task.first_query + thread_y() * kPer + i;
    const std::int64_t row = p.row_of(task.head, query);
    const float lse = rows.max[i] + logf(sum);
    if (p.g_lse != nullptr && thread_x() == 0 && first_feature == 0) p.g_lse[row] = lse;
    const Shares shares = find_shares(p, row, lse);
    const std::int64_t at = p.out_of(task.head, query);
    for (int j = 0; j < kFeatures / kSide; ++j) {
      const int feature = first_feature + simple::feature_of(j);
      if (feature >= p.head_dim) continue;
      float out = rows.out[i][j] * (shares.chosen / sum);
      if (p.g_cache != nullptr) out += shares.cached * load_cached(p, at + feature);
      p.g_out[at + feature] = static_cast<T>(out);
    }
  }
}

// Block (x, y, z) computes queries x of head y, features of the output from 128·z on. Two blocks
// per multiprocessor would leave too few registers per thread.
template <typename T>
__global__ void __launch_bounds__(kThreads, 1) attention_kernel(const AttentionParams<T> p) {
  __shared__ __align__(16) SharedTiles s_tiles;
  const BlockTask task = find_task<kTile>(p);
  if (task.num_queries <= 0) return;
  const int first_feature = blockIdx.z * kFeatures;
  const auto q = rows_from(p.q, task.head, task.first_query);
  const auto k = rows_from(p.k, task.head);
  const auto v = rows_from(p.v, task.head);
  const auto query_of = [&](int i) { return i < task.num_queries ? i : -1; };
  RunningRows rows{};
  for (float& max : rows.max) max = -FLT_MAX;

  for (int first = 0; first < task.num_keys; first += kTile) {
    const auto key_of = [&](int j) {
      if (first + j >= task.num_keys) return -1;
      return task.g_columns == nullptr ? first + j : task.g_columns[first + j];
    };
    simple::Products logits;
    simple::multiply_rows(q, query_of, k, key_of, p.head_dim, s_tiles, logits);
    for (int i = 0; i < kPer; ++i) {
      const int row = thread_y() * kPer + i;
      const bool has_bias = p.g_bias != nullptr && row < task.num_queries;
      for (int j = 0; j < kPer; ++j) {
        const int key = first + thread_x() + kSide * j;
        float& logit = logits[i][j];
        logit = key < task.num_keys ? logit * p.scale : -INFINITY;
        if (has_bias && key < task.num_keys) {
          logit += p.g_bias[p.row_of(task.head, task.first_query + row) * p.num_keys + key];
        }
      }
      add_to_softmax(logits[i], rows, i);
    }
    simple::store_weights(logits, s_tiles);
    simple::add_values(v, key_of, p.head_dim, first_feature, s_tiles, rows.out);
  }
  write_rows(p, task, first_feature, rows);
}

// Block (x, y) computes one tile of keys and one group of head y. Queries are added in order.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    column_sums_kernel(const AttentionParams<T> p, const ColumnSumsParams sums) {
  __shared__ __align__(16) SharedTiles s_tiles;
  const int num_tiles = (p.num_keys + kTile - 1) / kTile;
  const auto group = static_cast<int>(blockIdx.x) / num_tiles;
  const int first_key = static_cast<int>(blockIdx.x) % num_tiles * kTile;
  const auto head = static_cast<int>(blockIdx.y);
  const int num_rows = sums.num_rows(group, p.num_queries);
  const auto key_of = [&](int j) { return first_key + j < p.num_keys ? first_key + j : -1; };
  float column[kPer] = {};
  for (int first = 0; first < num_rows; first += kTile) {
    const auto query_of = [&](int i) {
      return first + i < num_rows ? sums.query_of(group, first + i) : -1;
    };
    simple::Products logits;
    simple::multiply_rows(rows_from(p.q, head), query_of, rows_from(p.k, head), key_of, p.head_dim,
                          s_tiles, logits);
    for (int i = 0; i < kPer; ++i) {
      const int query = query_of(thread_y() * kPer + i);
      if (query < 0) continue;
      const float lse = sums.g_lse[p.row_of(head, query)];
      for (int j = 0; j < kPer; ++j) column[j] += expf(logits[i][j] * p.scale - lse);
    }
  }
  for (int j = 0; j < kPer; ++j) {
    s_tiles.s_weights[thread_y() * simple::kWeightStride + thread_x() + kSide * j] = column[j];
  }
  __syncthreads();
  const auto key = static_cast<int>(threadIdx.x);
  if (key >= kTile || first_key + key >= p.num_keys) return;
  float sum = 0.0F;
  for (int i = 0; i < kSide; ++i) sum += s_tiles.s_weights[i * simple::kWeightStride + key];
  const std::int64_t list = static_cast<std::int64_t>(head) * sums.num_groups + group;
  sums.g_sums[list * p.num_keys + first_key + key] = sum;
}

}  // namespace

template <typename T>
void attend_simply(const AttentionParams<T>& params, cudaStream_t stream) {
  const dim3 grid(count_blocks<kTile>(params), params.num_heads,
                  (params.head_dim + kFeatures - 1) / kFeatures);
  attention_kernel<T><<<grid, kThreads, 0, stream>>>(params);
  check_launch("attention");
}

template <typename T>
void sum_columns_simply(const AttentionParams<T>& params, const ColumnSumsParams& sums,
                        cudaStream_t stream) {
  const int num_tiles = (params.num_keys + kTile - 1) / kTile;
  const dim3 grid(num_tiles * sums.num_groups, params.num_heads);
  column_sums_kernel<T><<<grid, kThreads, 0, stream>>>(params, sums);
  check_launch("column sums");
}

template void attend_simply(const AttentionParams<float>&, cudaStream_t);
template void attend_simply(const AttentionParams<__nv_bfloat16>&, cudaStream_t);
template void sum_columns_simply(const AttentionParams<float>&, const ColumnSumsParams&,
                                 cudaStream_t);
template void sum_columns_simply(const AttentionParams<__nv_bfloat16>&, const ColumnSumsParams&,
                                 cudaStream_t);

}  // namespace mochi::cuda
