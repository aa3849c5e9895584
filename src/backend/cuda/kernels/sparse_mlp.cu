// Feed-forward layers that recompute some hidden columns of each block of tokens, in fp32, for
// every width and dtype. In bf16 the tensor cores do it if the width allows.
#include <algorithm>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/mlp_problem.cuh"
#include "backend/cuda/kernels/simple_tiles.cuh"

namespace mochi {
namespace {

using cuda::MlpBlock;
using cuda::MlpProblem;
using cuda::simple::kPer;
using cuda::simple::kSide;
using cuda::simple::kThreads;
using cuda::simple::kTile;
using cuda::simple::kWeightStride;
using cuda::simple::Products;
using cuda::simple::SharedTiles;
using cuda::simple::thread_x;
using cuda::simple::thread_y;

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
__global__ void __launch_bounds__(kThreads) activations_kernel(const MlpProblem<T, float> p) {
  __shared__ __align__(16) SharedTiles s_tiles;
  const MlpBlock block = p.block(blockIdx.y);
  const int first_column = blockIdx.x * kTile;
  if (first_column >= block.num_columns) return;
  const auto column_of = [&](int j) {
    return first_column + j < block.num_columns ? block.g_columns[first_column + j] : -1;
  };
  const cuda::simple::Rows<T> x{p.g_x, p.width};
  const cuda::simple::Rows<T> w_gates{p.g_w1, p.width};
  const cuda::simple::Rows<T> w_values{p.g_w1 + static_cast<std::int64_t>(p.hidden) * p.width,
                                       p.width};
  float gate_sums[kPer] = {};
  float value_sums[kPer] = {};
  for (int first = 0; first < block.num_tokens; first += kTile) {
    const auto token_of = [&](int i) {
      return first + i < block.num_tokens ? block.first_token + first + i : -1;
    };
    Products gates;
    Products values;
    cuda::simple::multiply_rows(x, token_of, w_gates, column_of, p.width, s_tiles, gates);
    cuda::simple::multiply_rows(x, token_of, w_values, column_of, p.width, s_tiles, values);
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
        const T activation = static_cast<T>(cuda::silu_times(gates[i][j], values[i][j]));
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
__global__ void __launch_bounds__(kThreads) outputs_kernel(const MlpProblem<T, float> p) {
  __shared__ __align__(16) SharedTiles s_tiles;
  const MlpBlock block = p.block(blockIdx.y);
  if (block.num_columns == 0) return;
  const int first_feature = blockIdx.x * cuda::simple::kFeatures;
  for (int first = 0; first < block.num_tokens; first += kTile) {
    cuda::simple::Sums sums = {};
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
      cuda::simple::add_values(cuda::simple::Rows<T>{p.g_w2, p.width}, column_of, p.width,
                               first_feature, s_tiles, sums);
    }
    for (int i = 0; i < kPer; ++i) {
      const int row = first + thread_y() * kPer + i;
      if (row >= block.num_tokens) continue;
      T* g_row = p.g_out + static_cast<std::int64_t>(block.first_token + row) * p.width;
      for (int j = 0; j < cuda::simple::kFeatures / kSide; ++j) {
        const int feature = first_feature + cuda::simple::feature_of(j);
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

template <typename T, typename Change>
MlpProblem<T, Change> make_problem(const TensorView& x, const TensorView& w1,
                                   const TensorView& w2_rows, const ColumnLists& columns,
                                   const MlpCache& cache, std::byte* g_changes) {
  return {.g_x = cuda::data_of<const T>(x),
          .g_w1 = cuda::data_of<const T>(w1),
          .g_w2 = cuda::data_of<const T>(w2_rows),
          .g_activations = cuda::data_of<T>(cache.activations),
          .g_out = cuda::data_of<T>(cache.out),
          .g_means = cuda::data_of<T>(cache.means),
          .g_offsets = cuda::data_of<const std::int32_t>(columns.offsets),
          .g_columns = cuda::data_of<const std::int32_t>(columns.columns),
          .g_changes = reinterpret_cast<Change*>(g_changes),
          .num_tokens = static_cast<int>(x.dim(0)),
          .width = static_cast<int>(x.dim(1)),
          .hidden = static_cast<int>(w2_rows.dim(0)),
          .block_size = static_cast<int>(std::min(cache.block_size, x.dim(0))),
          .num_blocks = static_cast<int>(columns.offsets.dim(0) - 1)};
}

template <typename T>
void update_simply(const MlpProblem<T, float>& problem, cudaStream_t stream) {
  const auto tiles = [](int n, int tile) { return static_cast<unsigned>((n + tile - 1) / tile); };
  const auto num_blocks = static_cast<unsigned>(problem.num_blocks);
  activations_kernel<T>
      <<<dim3(tiles(problem.hidden, kTile), num_blocks), kThreads, 0, stream>>>(problem);
  outputs_kernel<T>
      <<<dim3(tiles(problem.width, cuda::simple::kFeatures), num_blocks), kThreads, 0, stream>>>(
          problem);
  cuda::check_launch("column_sparse_mlp");
}

}  // namespace

void CudaBackend::do_find_movement(const TensorView& means, const TensorView& former,
                                   const TensorView& scores) {
  const std::int64_t n = scores.num_elements();
  if (n == 0) return;
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    movement_kernel<T>
        <<<static_cast<unsigned>((n + kThreads - 1) / kThreads), kThreads, 0, stream_>>>(
            cuda::data_of<const T>(means), cuda::data_of<const T>(former),
            cuda::data_of<float>(scores), n, scores.dim(2));
  });
  cuda::check_launch("find_movement");
}

void CudaBackend::do_column_sparse_mlp(const TensorView& x, const TensorView& w1,
                                       const TensorView& w2_rows, const ColumnLists& columns,
                                       const MlpCache& cache) {
  const std::int64_t num_columns = columns.columns.dim(0);
  if (num_columns == 0 || x.num_elements() == 0) return;
  const std::int64_t num_blocks = columns.offsets.dim(0) - 1;
  const std::int64_t block_size = std::min(cache.block_size, x.dim(0));
  const auto num_changes = static_cast<std::size_t>(
      MlpProblem<float, float>::num_changes(num_columns, num_blocks, block_size));
  const auto make = [&]<typename T, typename Change>() {
    return make_problem<T, Change>(x, w1, w2_rows, columns, cache,
                                   workspace(num_changes * sizeof(Change)));
  };
  if (activation_dtype_ == DType::kF32) {
    update_simply(make.template operator()<float, float>(), stream_);
  } else if (x.dim(1) % cuda::Bf16MlpProblem::kMultiple != 0) {
    update_simply(make.template operator()<__nv_bfloat16, float>(), stream_);
  } else {
    cuda::update_mlp_by_mma(make.template operator()<__nv_bfloat16, __nv_bfloat16>(), stream_);
  }
}

}  // namespace mochi
