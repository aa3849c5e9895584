// Attention in fp32 for every head_dim and dtype: what the F32 backend computes, and the BF16 one
// where no faster kernel fits. Tiles of 64 queries by 64 keys with a running softmax; a thread has
// 4 by 4 logits, and of the output 4 rows by 8 features.
#include "backend/cuda/kernels/attention_problem.cuh"

namespace mochi::cuda {
namespace {

constexpr int kTile = 64;  // queries, and keys
constexpr int kSide = 16;  // threads are a square of this side
constexpr int kThreads = kSide * kSide;
constexpr int kPer = kTile / kSide;
constexpr int kChunk = 32;           // features of queries and keys in shared memory at a time
constexpr int kStride = kChunk + 4;  // keeps rows in different banks, and 16-byte aligned
constexpr int kFeatures = 128;       // of the output of one block
constexpr int kValueKeys = 32;       // rows of values in shared memory at a time
constexpr int kWeightStride = kTile + 4;

struct SharedTiles {
  union {
    struct {
      float s_q[kTile * kStride], s_k[kTile * kStride];
    };
    float s_v[kValueKeys * kFeatures];
  };
  float s_weights[kTile * kWeightStride];
};

// Features [first, first + kChunk) of rows row_of(0…kTile); zeros where there is none.
template <typename T, typename RowOf>
__device__ void load_chunk(const T* g_x, int head_dim, int first, RowOf row_of, float* s_x) {
  const int feature = threadIdx.x % kChunk;
#pragma unroll 4
  for (int i = threadIdx.x / kChunk; i < kTile; i += kThreads / kChunk) {
    const std::int64_t row = row_of(i);
    const bool is_there = row >= 0 && first + feature < head_dim;
    s_x[i * kStride + feature] =
        is_there ? static_cast<float>(g_x[row * head_dim + first + feature]) : 0.0F;
  }
}

__device__ float4 read4(const float* s_x) { return *reinterpret_cast<const float4*>(s_x); }

// products[i][j] = query 4·y + i times key x + 16·j.
template <typename T, typename QueryOf, typename KeyOf>
__device__ void multiply_tiles(const T* g_q, QueryOf query_of, const T* g_k, KeyOf key_of,
                               int head_dim, SharedTiles& s_tiles, float (&products)[kPer][kPer]) {
  const int x = threadIdx.x % kSide;
  const int y = threadIdx.x / kSide;
  for (auto& row : products) {
    for (float& product : row) product = 0.0F;
  }
  for (int first = 0; first < head_dim; first += kChunk) {
    __syncthreads();
    load_chunk(g_q, head_dim, first, query_of, s_tiles.s_q);
    load_chunk(g_k, head_dim, first, key_of, s_tiles.s_k);
    __syncthreads();
#pragma unroll 2
    for (int d = 0; d < kChunk; d += 4) {
      float4 k[kPer];
      for (int j = 0; j < kPer; ++j) k[j] = read4(s_tiles.s_k + (x + kSide * j) * kStride + d);
      for (int i = 0; i < kPer; ++i) {
        const float4 q = read4(s_tiles.s_q + (y * kPer + i) * kStride + d);
        for (int j = 0; j < kPer; ++j) {
          float& product = products[i][j];
          product = fmaf(q.x, k[j].x, product);
          product = fmaf(q.y, k[j].y, product);
          product = fmaf(q.z, k[j].z, product);
          product = fmaf(q.w, k[j].w, product);
        }
      }
    }
  }
}

// Of a thread: its rows' running softmax, and their outputs not yet divided by the sums.
struct RunningRows {
  float max[kPer], sum[kPer], out[kPer][kFeatures / kSide];
};

// One row's logits become weights; what came before is corrected.
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

// rows.out += weights [kTile, kTile] times the values of the tile's keys.
template <typename T, typename KeyOf>
__device__ void add_values(const T* g_v, KeyOf key_of, int head_dim, int first_feature,
                           SharedTiles& s_tiles, RunningRows& rows) {
  const int x = threadIdx.x % kSide;
  const int y = threadIdx.x / kSide;
  for (int first = 0; first < kTile; first += kValueKeys) {
    __syncthreads();
#pragma unroll 4
    for (int i = threadIdx.x; i < kValueKeys * kFeatures; i += kThreads) {
      const std::int64_t row = key_of(first + i / kFeatures);
      const int feature = first_feature + i % kFeatures;
      s_tiles.s_v[i] =
          row >= 0 && feature < head_dim ? static_cast<float>(g_v[row * head_dim + feature]) : 0.0F;
    }
    __syncthreads();
#pragma unroll 2
    for (int key = 0; key < kValueKeys; ++key) {
      const float4 low = read4(s_tiles.s_v + key * kFeatures + 4 * x);
      const float4 high = read4(s_tiles.s_v + key * kFeatures + kFeatures / 2 + 4 * x);
      for (int i = 0; i < kPer; ++i) {
        const float weight = s_tiles.s_weights[(y * kPer + i) * kWeightStride + first + key];
        float(&out)[kFeatures / kSide] = rows.out[i];
        out[0] = fmaf(weight, low.x, out[0]);
        out[1] = fmaf(weight, low.y, out[1]);
        out[2] = fmaf(weight, low.z, out[2]);
        out[3] = fmaf(weight, low.w, out[3]);
        out[4] = fmaf(weight, high.x, out[4]);
        out[5] = fmaf(weight, high.y, out[5]);
        out[6] = fmaf(weight, high.z, out[6]);
        out[7] = fmaf(weight, high.w, out[7]);
      }
    }
  }
}

template <typename T>
__device__ void write_rows(const AttentionProblem<T>& p, const BlockTask& task, int first_feature,
                           RunningRows& rows) {
  const int x = threadIdx.x % kSide;
  const int y = threadIdx.x / kSide;
  for (int i = 0; i < kPer; ++i) {
    float sum = rows.sum[i];
    for (int lane = kSide / 2; lane > 0; lane /= 2) sum += __shfl_xor_sync(~0U, sum, lane);
    if (y * kPer + i >= task.num_queries) continue;
    const int query = task.first_query + y * kPer + i;
    const std::int64_t row = p.row_of(task.head, query);
    const float lse = rows.max[i] + logf(sum);
    if (p.g_lse != nullptr && x == 0 && first_feature == 0) p.g_lse[row] = lse;
    const Shares shares = find_shares(p, row, lse);
    const std::int64_t at = p.out_of(task.head, query);
    for (int j = 0; j < kFeatures / kSide; ++j) {
      const int feature = first_feature + j / 4 * (kFeatures / 2) + 4 * x + j % 4;
      if (feature >= p.head_dim) continue;
      float out = rows.out[i][j] * (shares.chosen / sum);
      if (p.g_cache != nullptr) out += shares.cached * static_cast<float>(p.g_cache[at + feature]);
      p.g_out[at + feature] = static_cast<T>(out);
    }
  }
}

// Block (x, y, z): queries x of head y, features of the output from 128·z on.
template <typename T>
__global__ void __launch_bounds__(kThreads) attention_kernel(const AttentionProblem<T> p) {
  __shared__ __align__(16) SharedTiles s_tiles;
  const BlockTask task = find_task<kTile>(p);
  if (task.num_queries <= 0) return;
  const int x = threadIdx.x % kSide;
  const int y = threadIdx.x / kSide;
  const int first_feature = blockIdx.z * kFeatures;
  const T* g_q = p.g_q + p.row_of(task.head, task.first_query) * p.head_dim;
  const auto query_of = [&](int i) { return i < task.num_queries ? i : -1; };
  RunningRows rows{};
  for (float& max : rows.max) max = -FLT_MAX;

  for (int first = 0; first < task.num_keys; first += kTile) {
    const auto key_of = [&](int j) {
      if (first + j >= task.num_keys) return -1;
      return task.g_columns == nullptr ? first + j : task.g_columns[first + j];
    };
    float logits[kPer][kPer];
    multiply_tiles(g_q, query_of, p.g_k + p.keys_of(task.head), key_of, p.head_dim, s_tiles,
                   logits);
    for (int i = 0; i < kPer; ++i) {
      const int row = y * kPer + i;
      const bool has_bias = p.g_bias != nullptr && row < task.num_queries;
      for (int j = 0; j < kPer; ++j) {
        const int key = first + x + kSide * j;
        float& logit = logits[i][j];
        logit = key < task.num_keys ? logit * p.scale : -INFINITY;
        if (has_bias && key < task.num_keys) {
          logit += p.g_bias[p.row_of(task.head, task.first_query + row) * p.num_keys + key];
        }
      }
      add_to_softmax(logits[i], rows, i);
      for (int j = 0; j < kPer; ++j) {
        s_tiles.s_weights[row * kWeightStride + x + kSide * j] = logits[i][j];
      }
    }
    add_values(p.g_v + p.keys_of(task.head), key_of, p.head_dim, first_feature, s_tiles, rows);
  }
  write_rows(p, task, first_feature, rows);
}

// Block (x, y): one tile of keys and one group, of head y; its queries are added in their order.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    column_sums_kernel(const AttentionProblem<T> p, const ColumnSumsProblem sums) {
  __shared__ __align__(16) SharedTiles s_tiles;
  const int x = threadIdx.x % kSide;
  const int y = threadIdx.x / kSide;
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
    float logits[kPer][kPer];
    multiply_tiles(p.g_q + p.row_of(head, 0) * p.head_dim, query_of, p.g_k + p.keys_of(head),
                   key_of, p.head_dim, s_tiles, logits);
    for (int i = 0; i < kPer; ++i) {
      const int query = query_of(y * kPer + i);
      if (query < 0) continue;
      const float lse = sums.g_lse[p.row_of(head, query)];
      for (int j = 0; j < kPer; ++j) column[j] += expf(logits[i][j] * p.scale - lse);
    }
  }
  for (int j = 0; j < kPer; ++j) s_tiles.s_weights[y * kWeightStride + x + kSide * j] = column[j];
  __syncthreads();
  const auto key = static_cast<int>(threadIdx.x);
  if (key >= kTile || first_key + key >= p.num_keys) return;
  float sum = 0.0F;
  for (int i = 0; i < kSide; ++i) sum += s_tiles.s_weights[i * kWeightStride + key];
  const std::int64_t list = static_cast<std::int64_t>(head) * sums.num_groups + group;
  sums.g_sums[list * p.num_keys + first_key + key] = sum;
}

}  // namespace

template <typename T>
void attend_simply(const AttentionProblem<T>& problem, cudaStream_t stream) {
  const dim3 grid(count_blocks<kTile>(problem), problem.num_heads,
                  (problem.head_dim + kFeatures - 1) / kFeatures);
  attention_kernel<T><<<grid, kThreads, 0, stream>>>(problem);
  check_launch("attention");
}

template <typename T>
void sum_columns_simply(const AttentionProblem<T>& problem, const ColumnSumsProblem& sums,
                        cudaStream_t stream) {
  const int num_tiles = (problem.num_keys + kTile - 1) / kTile;
  const dim3 grid(num_tiles * sums.num_groups, problem.num_heads);
  column_sums_kernel<T><<<grid, kThreads, 0, stream>>>(problem, sums);
  check_launch("column sums");
}

template void attend_simply(const AttentionProblem<float>&, cudaStream_t);
template void attend_simply(const AttentionProblem<__nv_bfloat16>&, cudaStream_t);
template void sum_columns_simply(const AttentionProblem<float>&, const ColumnSumsProblem&,
                                 cudaStream_t);
template void sum_columns_simply(const AttentionProblem<__nv_bfloat16>&, const ColumnSumsProblem&,
                                 cudaStream_t);

}  // namespace mochi::cuda
