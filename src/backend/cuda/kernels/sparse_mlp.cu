// Feed-forward layers that recompute some hidden columns of each block of tokens, in fp32, for
// every width and dtype. In bf16 the tensor cores do it if the width allows.
#include <algorithm>

#include "backend/cuda/common/mlp_params.cuh"
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/simple_tiles.cuh"

namespace mochi::cuda {
namespace {

using simple::kPer;
using simple::kSide;
using simple::kThreads;
using simple::kTile;
using simple::kWeightStride;
using simple::Products;
using simple::SharedTiles;
using simple::thread_x;
using simple::thread_y;

// Adds up the values of threads with the same x. Threads with y = 0 get the result.
__device__ void sum_over_rows(const float (&partial)[kPer], SharedTiles& s_tiles,
                              float (&total)[kPer]) {
  __syncthreads();
  for (int j = 0; j < kPer; ++j) {
    s_tiles.s_weights[thread_y() * kWeightStride + thread_x() + kSide * j] = partial[j];
  }
  __syncthreads();
  for (int j = 0; j < kPer; ++j) {
    total[j] = 0.0F;
    for (int y = 0; y < kSide; ++y) {
      total[j] += s_tiles.s_weights[y * kWeightStride + thread_x() + kSide * j];
    }
  }
}

// Block (x, y) computes columns x of the list of token block y.
template <typename T>
__global__ void __launch_bounds__(kThreads) activations_kernel(const MlpParams<T, float> p) {
  __shared__ __align__(16) SharedTiles s_tiles;
  const MlpBlock block = p.block(blockIdx.y);
  const int first_column = blockIdx.x * kTile;
  if (first_column >= block.num_columns) return;
  const auto column_of = [&](int j) {
    return first_column + j < block.num_columns ? block.g_columns[first_column + j] : -1;
  };
  const simple::Rows<T> x{p.g_x, p.width};
  const simple::Rows<T> w_gates{p.g_w1, p.width};
  const simple::Rows<T> w_values{p.g_w1 + static_cast<std::int64_t>(p.hidden) * p.width, p.width};
  float gate_sums[kPer] = {};
  float value_sums[kPer] = {};
  for (int first = 0; first < block.num_tokens; first += kTile) {
    const auto token_of = [&](int i) {
      return first + i < block.num_tokens ? block.first_token + first + i : -1;
    };
    Products gates;
    Products values;
    simple::multiply_rows(x, token_of, w_gates, column_of, p.width, s_tiles, gates);
    simple::multiply_rows(x, token_of, w_values, column_of, p.width, s_tiles, values);
    for (int i = 0; i < kPer; ++i) {
      const int row = thread_y() * kPer + i;
      const int token = token_of(row);
      if (token < 0) continue;
      for (int j = 0; j < kPer; ++j) {
        const int place = thread_x() + kSide * j;
        const int column = column_of(place);
        if (column < 0) continue;
        gate_sums[j] += gates[i][j];
        value_sums[j] += values[i][j];
        T& kept = p.activation(token, column);
        const T activation = static_cast<T>(silu_times(gates[i][j], values[i][j]));
        p.g_changes[block.first_change + static_cast<std::int64_t>(first + row) * block.stride +
                    first_column + place] =
            static_cast<float>(activation) - static_cast<float>(kept);
        kept = activation;
      }
    }
  }
  float gate_totals[kPer];
  float value_totals[kPer];
  sum_over_rows(gate_sums, s_tiles, gate_totals);
  sum_over_rows(value_sums, s_tiles, value_totals);
  if (thread_y() > 0) return;
  for (int j = 0; j < kPer; ++j) {
    const int column = column_of(thread_x() + kSide * j);
    if (column >= 0) p.write_means(blockIdx.y, column, gate_totals[j], value_totals[j]);
  }
}

// Block (x, y) computes features x of the output of token block y.
template <typename T>
__global__ void __launch_bounds__(kThreads) outputs_kernel(const MlpParams<T, float> p) {
  __shared__ __align__(16) SharedTiles s_tiles;
  const MlpBlock block = p.block(blockIdx.y);
  if (block.num_columns == 0) return;
  const int first_feature = blockIdx.x * simple::kFeatures;
  for (int first = 0; first < block.num_tokens; first += kTile) {
    simple::Sums sums = {};
    for (int first_column = 0; first_column < block.num_columns; first_column += kTile) {
      __syncthreads();
      for (int i = threadIdx.x; i < kTile * kTile; i += kThreads) {
        const int row = first + i / kTile;
        const int place = first_column + i % kTile;
        const bool is_there = row < block.num_tokens && place < block.num_columns;
        s_tiles.s_weights[i / kTile * kWeightStride + i % kTile] =
            is_there ? p.g_changes[block.first_change +
                                   static_cast<std::int64_t>(row) * block.stride + place]
                     : 0.0F;
      }
      const auto column_of = [&](int j) {
        return first_column + j < block.num_columns ? block.g_columns[first_column + j] : -1;
      };
      simple::add_values(simple::Rows<T>{p.g_w2, p.width}, column_of, p.width, first_feature,
                         s_tiles, sums);
    }
    for (int i = 0; i < kPer; ++i) {
      const int row = first + thread_y() * kPer + i;
      if (row >= block.num_tokens) continue;
      T* g_row = p.g_out + static_cast<std::int64_t>(block.first_token + row) * p.width;
      for (int j = 0; j < simple::kFeatures / kSide; ++j) {
        const int feature = first_feature + simple::feature_of(j);
        if (feature >= p.width) continue;
        g_row[feature] = static_cast<T>(static_cast<float>(g_row[feature]) + sums[i][j]);
      }
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    movement_kernel(const T* g_means, const T* g_former, float* g_scores, std::int64_t num_scores,
                    std::int64_t hidden) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= num_scores) return;
  const std::int64_t gate = i / hidden * 2 * hidden + i % hidden;
  const auto movement = [&](std::int64_t at) {
    return fabsf(static_cast<float>(g_means[at]) - static_cast<float>(g_former[at]));
  };
  g_scores[i] = movement(gate) + movement(gate + hidden);
}

std::int64_t block_size_of(const ops::ColumnSparseMlp& op) {
  return std::min(op.columns.group_size, op.x.dim(0));
}

template <typename T, typename Change>
MlpParams<T, Change> make_params(const ops::ColumnSparseMlp& op, std::byte* g_changes) {
  return {.g_x = data_of<const T>(op.x),
          .g_w1 = data_of<const T>(op.w1.dense()),
          .g_w2 = data_of<const T>(op.w2_rows),
          .g_activations = data_of<T>(op.activations),
          .g_out = data_of<T>(op.out),
          .g_means = data_of<T>(op.means),
          .g_offsets = data_of<const std::int32_t>(op.columns.offsets),
          .g_columns = data_of<const std::int32_t>(op.columns.columns),
          .g_changes = reinterpret_cast<Change*>(g_changes),
          .num_tokens = static_cast<int>(op.x.dim(0)),
          .width = static_cast<int>(op.x.dim(1)),
          .hidden = static_cast<int>(op.w2_rows.dim(0)),
          .block_size = static_cast<int>(block_size_of(op)),
          .num_blocks = static_cast<int>(op.columns.offsets.dim(0) - 1)};
}

template <typename T>
void update_simply(const MlpParams<T, float>& params, cudaStream_t stream) {
  const auto tiles = [](int n, int tile) { return static_cast<unsigned>((n + tile - 1) / tile); };
  const auto num_blocks = static_cast<unsigned>(params.num_blocks);
  activations_kernel<T>
      <<<dim3(tiles(params.hidden, kTile), num_blocks), kThreads, 0, stream>>>(params);
  outputs_kernel<T>
      <<<dim3(tiles(params.width, simple::kFeatures), num_blocks), kThreads, 0, stream>>>(params);
  check_launch("column_sparse_mlp");
}

}  // namespace

void run(Gpu& gpu, const ops::FindMovement& op) {
  const std::int64_t n = op.scores.num_elements();
  if (n == 0) return;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    movement_kernel<T>
        <<<static_cast<unsigned>((n + kThreads - 1) / kThreads), kThreads, 0, gpu.stream()>>>(
            data_of<const T>(op.means), data_of<const T>(op.former), data_of<float>(op.scores), n,
            op.scores.dim(2));
  });
  check_launch("find_movement");
}
template void compute(Gpu&, const ops::FindMovement&);

void run(Gpu& gpu, const ops::ColumnSparseMlp& op) {
  const std::int64_t num_columns = op.columns.columns.dim(0);
  if (num_columns == 0 || op.x.num_elements() == 0) return;
  const std::int64_t num_blocks = op.columns.offsets.dim(0) - 1;
  const auto num_changes = static_cast<std::size_t>(
      MlpParams<float, float>::num_changes(num_columns, num_blocks, block_size_of(op)));
  const auto make = [&]<typename T, typename Change>() {
    return make_params<T, Change>(op, gpu.workspace(num_changes * sizeof(Change)));
  };
  if (gpu.activation_dtype() == DType::kF32) {
    update_simply(make.template operator()<float, float>(), gpu.stream());
  } else if (op.x.dim(1) % Bf16MlpParams::kMultiple != 0) {
    update_simply(make.template operator()<__nv_bfloat16, float>(), gpu.stream());
  } else {
    update_mlp_by_mma(make.template operator()<__nv_bfloat16, __nv_bfloat16>(), gpu.stream());
  }
}
template void compute(Gpu&, const ops::ColumnSparseMlp&);

}  // namespace mochi::cuda
