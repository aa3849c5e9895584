// Sparse feed-forward layers in bf16 by tensor cores. Blocks of four warps compute tiles of 128 by
// 128 products, 64 by 64 per warp. While one chunk of 64 elements is multiplied, the next is being
// copied.
#include "backend/cuda/common/mlp_params.cuh"
#include "backend/cuda/common/shared_memory_limit.h"
#include "backend/cuda/kernels/warp_tiles.cuh"

namespace mochi::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kTile = 128;
constexpr int kWarpTile = 64;
constexpr int kChunk = 64;
constexpr int kColumnTile = kTile / 2;  // hidden columns, each with a gate and a value
constexpr int kRowTiles = kWarpTile / 16;
constexpr int kColumnTiles = kWarpTile / 8;

using Sums = float[kRowTiles][kColumnTiles][4];

__device__ int warp_row() { return static_cast<int>(threadIdx.x) / 64 * kWarpTile; }
__device__ int warp_column() { return static_cast<int>(threadIdx.x) / 32 % 2; }
// The row of a thread in fragment m and half `half`, and its column in fragment n.
__device__ int row_of(int m, int half) {
  return warp_row() + m * 16 + half * 8 + static_cast<int>(threadIdx.x) % 32 / 4;
}
__device__ int column_in(int n) { return n * 8 + static_cast<int>(threadIdx.x) % 4 * 2; }

// sums += left [64 rows of the warp, 16] · the fragments that right_of(i) loads, i < 4.
template <typename RightOf>
__device__ void add_products(const Bf16* s_left, RightOf right_of, Sums& sums) {
  std::uint32_t left[kRowTiles][4];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
    load_left<kChunk>(left[m], s_left + m * 16 * kRowStride<kChunk>);
  }
#pragma unroll
  for (int i = 0; i < kColumnTiles / 2; ++i) {
    std::uint32_t right[2][2];
    right_of(i, right);
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      device::multiply_add(sums[m][2 * i], left[m], right[0]);
      device::multiply_add(sums[m][2 * i + 1], left[m], right[1]);
    }
  }
}

// Runs step(chunk, buffer) for every chunk while start(chunk, buffer) loads the next.
template <typename Start, typename Step>
__device__ void run_chunks(int num_chunks, Start start, Step step) {
  __syncthreads();
  start(0, 0);
  device::commit_copies();
  for (int chunk = 0; chunk < num_chunks; ++chunk) {
    device::wait_copies<0>();
    __syncthreads();
    if (chunk + 1 < num_chunks) start(chunk + 1, (chunk + 1) % 2);
    device::commit_copies();
    step(chunk % 2);
  }
}

// Adds a warp's gates (fragments 0…3) and its values of the same columns (fragments 4…7) to the
// sums over tokens, and writes activations and changes. All cached values are read before any is
// written, because otherwise every read would wait for a write.
__device__ void update_tile(const Bf16MlpParams& p, const MlpBlock& block, int first_token,
                            int first_column, const Sums& sums, float* s_totals) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < kColumnTiles / 2; ++n) {
    float totals[2][2] = {};  // sums of gates and values
    const int place = first_column + warp_column() * kColumnTile / 2 + column_in(n);
    int columns[2];
    for (int i = 0; i < 2; ++i) {
      columns[i] = place + i < block.num_columns ? block.g_columns[place + i] : -1;
    }
    Bf16 kept[kRowTiles][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = first_token + row_of(m, i / 2);
        const bool is_there = row < block.num_tokens && columns[i % 2] >= 0;
        if (is_there) kept[m][i] = p.activation(block.first_token + row, columns[i % 2]);
      }
    }
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = first_token + row_of(m, half);
        if (row >= block.num_tokens || place >= block.stride) continue;
        float changes[2] = {0.0F, 0.0F};  // zero after the last column, too
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float gate = sums[m][n][2 * half + i];
          const float value = sums[m][n + kColumnTiles / 2][2 * half + i];
          totals[0][i] += gate;
          totals[1][i] += value;
          if (columns[i] < 0) continue;
          const Bf16 activation = __float2bfloat16_rn(silu_times(gate, value));
          changes[i] = __bfloat162float(activation) - __bfloat162float(kept[m][2 * half + i]);
          p.activation(block.first_token + row, columns[i]) = activation;
        }
        Bf16* g_change = p.g_changes + block.first_change +
                         static_cast<std::int64_t>(row) * block.stride + place;
        *reinterpret_cast<__nv_bfloat162*>(g_change) =
            __floats2bfloat162_rn(changes[0], changes[1]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float total = totals[i / 2][i % 2];
      for (int step = 4; step < 32; step *= 2) total += __shfl_xor_sync(~0U, total, step);
      const int column = warp_column() * kColumnTile / 2 + column_in(n) + i % 2;
      if (lane < 4) s_totals[(warp_row() / kWarpTile * 2 + i / 2) * kColumnTile + column] += total;
    }
  }
}

// Writes the means from the sums over tokens of the upper two warps, [2, kColumnTile], and of the
// lower two.
__device__ void write_means(const Bf16MlpParams& p, const MlpBlock& block, int first_column,
                            const float* s_totals) {
  __syncthreads();
  const auto column = static_cast<int>(threadIdx.x);
  if (column >= kColumnTile || first_column + column >= block.num_columns) return;
  const float* s_total = s_totals + column;
  p.write_means(blockIdx.y, block.g_columns[first_column + column],
                s_total[0] + s_total[2 * kColumnTile],
                s_total[kColumnTile] + s_total[3 * kColumnTile]);
}

// Block (x, y) computes columns x of the list of token block y.
__global__ void __launch_bounds__(kThreads) activations_kernel(const Bf16MlpParams p) {
  constexpr int kSize = kTile * kRowStride<kChunk>;
  extern __shared__ __align__(16) Bf16 s_memory[];  // two buffers each of tokens and weights
  __shared__ float s_totals[4 * kColumnTile];
  __shared__ int s_rows[kTile];  // rows of w1
  const MlpBlock block = p.block(blockIdx.y);
  const int first_column = blockIdx.x * kColumnTile;
  if (first_column >= block.num_columns) return;
  const int column = first_column + static_cast<int>(threadIdx.x) % kColumnTile;
  s_rows[threadIdx.x] =
      column < block.num_columns
          ? block.g_columns[column] + static_cast<int>(threadIdx.x) / kColumnTile * p.hidden
          : -1;
  for (int i = threadIdx.x; i < 4 * kColumnTile; i += kThreads) s_totals[i] = 0.0F;
  for (int first = 0; first < block.num_tokens; first += kTile) {
    Sums sums = {};
    const auto start = [&](int chunk, int buffer) {
      Bf16* s_tokens = s_memory + buffer * 2 * kSize;
      const int element = chunk * kChunk;
      start_rows<kTile, kChunk, kThreads>(
          s_tokens, p.g_x + element, p.width, p.width - element,
          [&](int i) { return first + i < block.num_tokens ? block.first_token + first + i : -1; });
      start_rows<kTile, kChunk, kThreads>(s_tokens + kSize, p.g_w1 + element, p.width,
                                          p.width - element, [&](int i) { return s_rows[i]; });
    };
    run_chunks((p.width + kChunk - 1) / kChunk, start, [&](int buffer) {
      const Bf16* s_tokens = s_memory + buffer * 2 * kSize + warp_row() * kRowStride<kChunk>;
      const Bf16* s_weights = s_memory + (buffer * 2 + 1) * kSize +
                              warp_column() * kColumnTile / 2 * kRowStride<kChunk>;
#pragma unroll
      for (int d = 0; d < kChunk; d += 16) {
        add_products(
            s_tokens + d,
            [&](int i, std::uint32_t(&right)[2][2]) {
              const int row = i / 2 * kColumnTile + i % 2 * 16;
              load_right_rows<kChunk>(right, s_weights + row * kRowStride<kChunk> + d);
            },
            sums);
      }
    });
    update_tile(p, block, first, first_column, sums, s_totals);
  }
  write_means(p, block, first_column, s_totals);
}

__device__ void add_to_output(const Bf16MlpParams& p, const MlpBlock& block, int first_token,
                              int first_feature, const Sums& sums) {
#pragma unroll
  for (int i = 0; i < 2 * kRowTiles; ++i) {
    const int row = first_token + row_of(i / 2, i % 2);
    if (row >= block.num_tokens) continue;
    const int first = first_feature + warp_column() * kWarpTile + column_in(0);
    Bf16* g_row = p.g_out + static_cast<std::int64_t>(block.first_token + row) * p.width + first;
    __nv_bfloat162 former[kColumnTiles];  // all are read before any is written
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
      if (first + n * 8 < p.width) {
        former[n] = *reinterpret_cast<const __nv_bfloat162*>(g_row + n * 8);
      }
    }
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
      if (first + n * 8 >= p.width) break;
      float2 out = __bfloat1622float2(former[n]);
      out.x += sums[i / 2][n][i % 2 * 2];
      out.y += sums[i / 2][n][i % 2 * 2 + 1];
      *reinterpret_cast<__nv_bfloat162*>(g_row + n * 8) = __float22bfloat162_rn(out);
    }
  }
}

// Block (x, y) computes features x of the output of token block y.
__global__ void __launch_bounds__(kThreads) outputs_kernel(const Bf16MlpParams p) {
  constexpr int kLeftSize = kTile * kRowStride<kChunk>;
  constexpr int kSize = kLeftSize + kChunk * kRowStride<kTile>;
  extern __shared__ __align__(16) Bf16 s_memory[];  // two buffers each of changes and weights
  const MlpBlock block = p.block(blockIdx.y);
  if (block.num_columns == 0) return;
  const int first_feature = blockIdx.x * kTile;
  for (int first = 0; first < block.num_tokens; first += kTile) {
    Sums sums = {};
    const auto start = [&](int chunk, int buffer) {
      Bf16* s_changes = s_memory + buffer * kSize;
      const int place = chunk * kChunk;
      start_rows<kTile, kChunk, kThreads>(
          s_changes, p.g_changes + block.first_change + place, block.stride, block.stride - place,
          [&](int i) { return first + i < block.num_tokens ? first + i : -1; });
      start_rows<kChunk, kTile, kThreads>(
          s_changes + kLeftSize, p.g_w2 + first_feature, p.width, p.width - first_feature,
          [&](int i) { return place + i < block.num_columns ? block.g_columns[place + i] : -1; });
    };
    run_chunks((block.num_columns + kChunk - 1) / kChunk, start, [&](int buffer) {
      const Bf16* s_changes = s_memory + buffer * kSize + warp_row() * kRowStride<kChunk>;
      const Bf16* s_weights = s_memory + buffer * kSize + kLeftSize + warp_column() * kWarpTile;
#pragma unroll
      for (int k = 0; k < kChunk; k += 16) {
        add_products(
            s_changes + k,
            [&](int i, std::uint32_t(&right)[2][2]) {
              load_right_columns<kTile>(right, s_weights + k * kRowStride<kTile> + i * 16);
            },
            sums);
      }
    });
    add_to_output(p, block, first, first_feature, sums);
  }
}

template <typename Kernel>
void launch(Kernel kernel, int num_tiles, int num_elements, const Bf16MlpParams& params,
            cudaStream_t stream) {
  const int num_bytes = num_elements * static_cast<int>(sizeof(Bf16));
  allow_shared_memory(kernel, num_bytes);
  const dim3 grid(num_tiles, params.num_blocks);
  kernel<<<grid, kThreads, num_bytes, stream>>>(params);
  check_launch("column_sparse_mlp");
}

}  // namespace

void update_mlp_by_mma(const Bf16MlpParams& params, cudaStream_t stream) {
  launch(activations_kernel, (params.hidden + kColumnTile - 1) / kColumnTile,
         4 * kTile * kRowStride<kChunk>, params, stream);
  launch(outputs_kernel, (params.width + kTile - 1) / kTile,
         2 * (kTile * kRowStride<kChunk> + kChunk * kRowStride<kTile>), params, stream);
}

}  // namespace mochi::cuda
