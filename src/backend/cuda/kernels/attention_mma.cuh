// Attention in bf16 by the tensor cores of compute capability 8.0 and newer. A warp has 16 or 32
// queries, with their logits, weights and outputs in registers. The block's warps share tiles of 32
// keys and values; while they use one tile, the next is being copied.
#pragma once

#include "backend/cuda/common/attention_params.cuh"
#include "backend/cuda/common/float8.cuh"
#include "backend/cuda/common/shared_memory_limit.h"
#include "backend/cuda/kernels/warp_tiles.cuh"

namespace mochi::cuda {

constexpr int kRowTile = 16;  // queries of one product; a warp has kTiles of them
constexpr int kKeyTile = 32;
constexpr int kMaxMmaDim = 128;
// Limit with a bias, since there are not enough registers for more.
constexpr int kMaxBiasDim = 64;

// Returns true if this kernel supports these inputs; otherwise the simple kernel computes them.
// Rows are copied in pieces of 16 bytes, and the maximum is taken before scaling.
inline bool fits_mma(const AttentionInputs& in) {
  const std::int64_t head_dim = in.q.dim(2);
  return head_dim <= (in.bias ? kMaxBiasDim : kMaxMmaDim) && head_dim % kChunkElements == 0 &&
         has_vector_rows<Bf16>(in) && in.scale > 0;
}

// Fragments of one warp. Of every 16 queries, thread i has rows i / 4 and i / 4 + 8.
template <int kDim, int kTiles>
struct WarpRows {
  float out[kTiles][kDim / 8][4];  // not yet divided by the sums
  float max[kTiles][2];            // maxima of the unscaled logits
  float sum[kTiles][2];            // sums of this thread's weights
};

template <int kTiles>
using WarpLogits = float[kTiles][kKeyTile / 8][4];

// logits = queries [16·kTiles, kDim] · keys [32, kDim]ᵀ.
template <int kDim, int kTiles>
__device__ void find_logits(const Bf16* s_q, const Bf16* s_k, WarpLogits<kTiles>& logits) {
#pragma unroll
  for (auto& rows : logits) {
    for (auto& tile : rows) {
      for (float& logit : tile) logit = 0.0F;
    }
  }
#pragma unroll
  for (int d = 0; d < kDim; d += 16) {
    std::uint32_t q[kTiles][4];
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      load_left<kDim>(q[m], s_q + m * kRowTile * kRowStride<kDim> + d);
    }
#pragma unroll
    for (int key = 0; key < kKeyTile; key += 16) {
      std::uint32_t k[2][2];
      load_right_rows<kDim>(k, s_k + key * kRowStride<kDim> + d);
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        device::multiply_add(logits[m][key / 8], q[m], k[0]);
        device::multiply_add(logits[m][key / 8 + 1], q[m], k[1]);
      }
    }
  }
}

// Excludes the keys from num_keys on.
template <int kTiles>
__device__ void mask_keys(WarpLogits<kTiles>& logits, int num_keys) {
  const int first = threadIdx.x % 4 * 2;
#pragma unroll
  for (int n = 0; n < kKeyTile / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (n * 8 + first + i % 2 < num_keys) continue;
#pragma unroll
      for (int m = 0; m < kTiles; ++m) logits[m][n][i] = -INFINITY;
    }
  }
}

// logits = logits·scale + bias, in units of log 2. g_bias [num_queries, stride] points to the entry
// of the warp's first query and the tile's first key.
template <int kTiles>
__device__ void add_bias(WarpLogits<kTiles>& logits, float scale, const float* g_bias,
                         std::int64_t stride, int num_queries, int num_keys) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = m * kRowTile + i / 2 * 8 + lane / 4;
#pragma unroll
      for (int n = 0; n < kKeyTile / 8; ++n) {
        const int key = n * 8 + lane % 4 * 2 + i % 2;
        const bool is_there = row < num_queries && key < num_keys;
        const float bias = is_there ? g_bias[row * stride + key] : 0.0F;
        logits[m][n][i] = logits[m][n][i] * scale + bias * kLog2E;
      }
    }
  }
}

// Raises the maxima to include the tile's logits and corrects values that were computed with
// smaller maxima. That is rare after the first tiles.
template <int kDim, int kTiles>
__device__ void raise_maxima(const WarpLogits<kTiles>& logits, float scale,
                             WarpRows<kDim, kTiles>& rows) {
  float max[kTiles][2];
  bool has_grown = false;
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float row_max = rows.max[m][half];
#pragma unroll
      for (const auto& tile : logits[m]) {
        row_max = fmaxf(row_max, fmaxf(tile[2 * half], tile[2 * half + 1]));
      }
      max[m][half] = max_of_quad(row_max);
      has_grown |= max[m][half] > rows.max[m][half];
    }
  }
  if (!__any_sync(~0U, has_grown)) return;
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float correction = device::exp2_fast((rows.max[m][half] - max[m][half]) * scale);
      rows.max[m][half] = max[m][half];
      rows.sum[m][half] *= correction;
#pragma unroll
      for (auto& tile : rows.out[m]) {
        tile[2 * half] *= correction;
        tile[2 * half + 1] *= correction;
      }
    }
  }
}

// Turns logits into weights 2^(scale·(logit − max)).
template <int kDim, int kTiles>
__device__ void add_to_softmax(WarpLogits<kTiles>& logits, float scale,
                               WarpRows<kDim, kTiles>& rows) {
  raise_maxima(logits, scale, rows);
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
    const float shift[2] = {rows.max[m][0] * scale, rows.max[m][1] * scale};
#pragma unroll
    for (auto& tile : logits[m]) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        tile[i] = device::exp2_fast(fmaf(tile[i], scale, -shift[i / 2]));
        rows.sum[m][i / 2] += tile[i];
      }
    }
  }
}

// rows.out += weights · values [32, kDim].
template <int kDim, int kTiles>
__device__ void add_values(const WarpLogits<kTiles>& weights, const Bf16* s_v,
                           WarpRows<kDim, kTiles>& rows) {
#pragma unroll
  for (int key = 0; key < kKeyTile; key += 16) {
    std::uint32_t a[kTiles][4];
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      const float(&left)[4] = weights[m][key / 8];
      const float(&right)[4] = weights[m][key / 8 + 1];
      a[m][0] = device::pack_bf16(left[0], left[1]);
      a[m][1] = device::pack_bf16(left[2], left[3]);
      a[m][2] = device::pack_bf16(right[0], right[1]);
      a[m][3] = device::pack_bf16(right[2], right[3]);
    }
#pragma unroll
    for (int d = 0; d < kDim; d += 16) {
      std::uint32_t v[2][2];
      load_right_columns<kDim>(v, s_v + key * kRowStride<kDim> + d);
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        device::multiply_add(rows.out[m][d / 8], a[m], v[0]);
        device::multiply_add(rows.out[m][d / 8 + 1], a[m], v[1]);
      }
    }
  }
}

// Loads two neighbouring values, of which the first has an even index.
__device__ inline float2 load_cached(const AttentionParams<Bf16>& p, std::int64_t at) {
  if (p.g_cache_scale == nullptr) {
    return __bfloat1622float2(static_cast<const __nv_bfloat162*>(p.g_cache)[at / 2]);
  }
  return unpack_f8(static_cast<const std::uint16_t*>(p.g_cache)[at / 2]);
}

// `scale` converts the maxima to units of log 2. `first` is the first of the warp's queries within
// the task.
template <bool kHasDelta, int kDim, int kTiles>
__device__ void write_rows(const AttentionParams<Bf16>& p, const BlockTask& task, int first,
                           float scale, WarpRows<kDim, kTiles>& rows) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = sum_of_quad(rows.sum[m][half]);
      const int i = first + m * kRowTile + half * 8 + lane / 4;
      if (i >= task.num_queries) continue;
      const int query = task.first_query + i;
      const std::int64_t row = p.row_of(task.head, query);
      const float lse = (rows.max[m][half] * scale + log2f(sum)) * kLn2;
      if (p.g_lse != nullptr && lane % 4 == 0) p.g_lse[row] = lse;
      Shares shares;
      if constexpr (kHasDelta) shares = find_shares(p, row, lse);
      const float factor = shares.chosen / sum;
      const std::int64_t at = p.out_of(task.head, query) + lane % 4 * 2;
#pragma unroll
      for (int d = 0; d < kDim; d += 8) {
        if (d >= p.head_dim) break;
        const float(&tile)[4] = rows.out[m][d / 8];
        float2 out{tile[2 * half] * factor, tile[2 * half + 1] * factor};
        if (kHasDelta && p.g_cache != nullptr) {
          const float2 cached = load_cached(p, at + d);
          out.x += shares.cached * cached.x;
          out.y += shares.cached * cached.y;
        }
        *reinterpret_cast<__nv_bfloat162*>(p.g_out + at + d) = __float22bfloat162_rn(out);
      }
    }
  }
}

// Finds the rows of g_k and g_v that hold a tile's keys.
template <bool kHasColumns>
struct KeyRows {
  const BlockTask& task;
  int (&s_rows)[2][kKeyTile];

  // Called by all threads; other threads see the rows after a barrier.
  __device__ void find(int tile) {
    if constexpr (kHasColumns) {
      const int i = threadIdx.x;
      const int key = tile * kKeyTile + i;
      if (i < kKeyTile) s_rows[tile % 2][i] = key < task.num_keys ? task.g_columns[key] : -1;
    }
  }
  __device__ int operator()(int tile, int i) const {
    if constexpr (kHasColumns) return s_rows[tile % 2][i];
    const int key = tile * kKeyTile + i;
    return key < task.num_keys ? key : -1;
  }
};

// Block (x, y) computes queries x of head y, with one warp for every 16·kTiles queries.
template <int kDim, int kWarps, int kTiles, bool kHasColumns, bool kHasBias>
__global__ void __launch_bounds__(kWarps * 32) attention_mma_kernel(const AttentionParams<Bf16> p) {
  constexpr int kThreads = kWarps * 32;
  constexpr int kQueries = kWarps * kTiles * kRowTile;
  constexpr int kTileSize = kKeyTile * kRowStride<kDim>;
  extern __shared__ __align__(16) Bf16 s_memory[];
  __shared__ int s_rows[2][kKeyTile];
  Bf16* s_q = s_memory;
  Bf16* s_tiles = s_q + kQueries * kRowStride<kDim>;  // two tiles each of keys and values
  const BlockTask task = find_task<kQueries>(p);
  if (task.num_queries <= 0) return;
  KeyRows<kHasColumns> key_rows{task, s_rows};
  // Columns are chosen only for separate tensors, so one offset serves keys and values. That saves
  // enough registers for one more block per multiprocessor.
  const std::int64_t keys = static_cast<std::int64_t>(task.head) * p.num_keys * p.head_dim;
  const auto start_tile = [&](int tile) {
    Bf16* s_k = s_tiles + tile % 2 * 2 * kTileSize;
    for_each_chunk<kKeyTile, kDim, kThreads>(
        p.head_dim, [&](int i) { return key_rows(tile, i); },
        [&](int place, int row, int element) {
          if constexpr (kHasColumns) {
            const std::int64_t at =
                row < 0 ? 0 : keys + static_cast<std::int64_t>(row) * p.head_dim + element;
            device::copy_16_bytes(s_k + place, p.k.g_data + at, row >= 0);
            device::copy_16_bytes(s_k + kTileSize + place, p.v.g_data + at, row >= 0);
          } else {
            const int token = row < 0 ? 0 : row;
            device::copy_16_bytes(s_k + place, p.k.of(task.head, token) + element, row >= 0);
            device::copy_16_bytes(s_k + kTileSize + place, p.v.of(task.head, token) + element,
                                  row >= 0);
          }
        });
    device::commit_copies();
  };
  key_rows.find(0);
  key_rows.find(1);
  __syncthreads();
  start_rows<kQueries, kDim, kThreads>(s_q, p.q.of(task.head, task.first_query), p.q.token_stride,
                                       p.head_dim,
                                       [&](int i) { return i < task.num_queries ? i : -1; });
  start_tile(0);

  const int first = static_cast<int>(threadIdx.x) / 32 * kTiles * kRowTile;
  const bool has_work = first < task.num_queries;  // the other warps help to copy
  const float scale = p.scale * kLog2E;
  WarpRows<kDim, kTiles> rows{};
  for (auto& max : rows.max) max[0] = max[1] = -FLT_MAX;
  const int num_tiles = (task.num_keys + kKeyTile - 1) / kKeyTile;
  for (int tile = 0; tile < num_tiles; ++tile) {
    device::wait_copies<0>();
    __syncthreads();  // this tile has arrived, and the previous one is no longer needed
    if (tile + 1 < num_tiles) start_tile(tile + 1);
    key_rows.find(tile + 2);
    if (!has_work) continue;
    const Bf16* s_k = s_tiles + tile % 2 * 2 * kTileSize;
    const int num_keys = task.num_keys - tile * kKeyTile;
    WarpLogits<kTiles> logits;
    find_logits<kDim>(s_q + first * kRowStride<kDim>, s_k, logits);
    if constexpr (kHasBias) {
      const float* g_bias =
          p.g_bias + p.row_of(task.head, task.first_query + first) * p.num_keys + tile * kKeyTile;
      add_bias(logits, scale, g_bias, p.num_keys, task.num_queries - first, num_keys);
    }
    if (num_keys < kKeyTile) mask_keys(logits, num_keys);
    add_to_softmax(logits, kHasBias ? 1.0F : scale, rows);
    add_values(logits, s_k + kTileSize, rows);
  }
  if (has_work) write_rows<kHasColumns>(p, task, first, kHasBias ? 1.0F : scale, rows);
}

template <int kDim, int kWarps, int kTiles, bool kHasColumns, bool kHasBias>
void launch_attention(const AttentionParams<Bf16>& params, cudaStream_t stream) {
  constexpr int kQueries = kWarps * kTiles * kRowTile;
  constexpr int kBytes =
      (kQueries + 4 * kKeyTile) * kRowStride<kDim> * static_cast<int>(sizeof(Bf16));
  const auto kernel = attention_mma_kernel<kDim, kWarps, kTiles, kHasColumns, kHasBias>;
  allow_shared_memory(kernel, kBytes);
  const dim3 grid(count_blocks<kQueries>(params), params.num_heads);
  kernel<<<grid, kWarps * 32, kBytes, stream>>>(params);
  check_launch("attention");
}

// Calls fn.template operator()<kDim>() with the smallest row width for head_dim ≤ kMaxDim.
template <int kMaxDim, typename Fn>
void dispatch_dim(int head_dim, Fn&& fn) {
  if (head_dim <= 32) return fn.template operator()<32>();
  if (kMaxDim <= 64 || head_dim <= 64) return fn.template operator()<64>();
  if constexpr (kMaxDim > 64) {
    if (head_dim <= 96) return fn.template operator()<96>();
    fn.template operator()<kMaxMmaDim>();
  }
}

template <int kWarps, int kTiles, bool kHasColumns, bool kHasBias>
void attend_by_mma(const AttentionParams<Bf16>& params, cudaStream_t stream) {
  dispatch_dim<kHasBias ? kMaxBiasDim : kMaxMmaDim>(params.head_dim, [&]<int kDim>() {
    launch_attention<kDim, kWarps, kTiles, kHasColumns, kHasBias>(params, stream);
  });
}

}  // namespace mochi::cuda
