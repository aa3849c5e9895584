// Operations that move elements, and the means of rows.
#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/common/vector.cuh"
#include "backend/cuda/implement.h"

namespace mochi::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 32;  // rows and columns of the tile that a block transposes

__device__ std::int64_t thread_idx() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

unsigned num_blocks(std::int64_t num_threads) {
  return static_cast<unsigned>((num_threads + kThreads - 1) / kThreads);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    transpose_kernel(const T* g_x, T* g_out, std::int64_t rows, std::int64_t columns) {
  __shared__ T s_tile[kTile][kTile + 1];
  const std::int64_t column_tiles = (columns + kTile - 1) / kTile;
  const std::int64_t first_row = blockIdx.x / column_tiles * kTile;
  const std::int64_t first_column = blockIdx.x % column_tiles * kTile;
  const int lane = threadIdx.x % kTile;
  for (int i = threadIdx.x / kTile; i < kTile; i += kThreads / kTile) {
    const std::int64_t row = first_row + i;
    const std::int64_t column = first_column + lane;
    if (row < rows && column < columns) s_tile[i][lane] = g_x[row * columns + column];
  }
  __syncthreads();
  for (int i = threadIdx.x / kTile; i < kTile; i += kThreads / kTile) {
    const std::int64_t row = first_row + lane;
    const std::int64_t column = first_column + i;
    if (row < rows && column < columns) g_out[column * rows + row] = s_tile[lane][i];
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    embedding_kernel(const std::int32_t* g_ids, const T* g_table, T* g_out, std::int64_t width) {
  const T* g_row = g_table + g_ids[blockIdx.x] * width;
  for (std::int64_t i = threadIdx.x; i < width; i += kThreads) {
    g_out[blockIdx.x * width + i] = g_row[i];
  }
}

struct Patches {  // a latent grid divided into patches
  std::int64_t channels, frames, rows, columns, size;

  __host__ __device__ std::int64_t num_elements() const {
    return channels * frames * rows * columns;
  }
};

Patches patches_of(const TensorView& latents, int patch_size) {
  return {latents.dim(0), latents.dim(1), latents.dim(2), latents.dim(3), patch_size};
}

// Returns the index among the tokens of element i of latents [channels, frames, rows, columns].
// Features are (channel, row, column) or (row, column, channel).
template <bool kIsChannelLast>
__device__ std::int64_t token_element(const Patches& grid, std::int64_t i) {
  const std::int64_t column = i % grid.columns;
  const std::int64_t row = i / grid.columns % grid.rows;
  const std::int64_t frame = i / (grid.columns * grid.rows) % grid.frames;
  const std::int64_t channel = i / (grid.columns * grid.rows * grid.frames);
  const std::int64_t p = grid.size;
  const std::int64_t token = (frame * (grid.rows / p) + row / p) * (grid.columns / p) + column / p;
  const std::int64_t place = row % p * p + column % p;
  const std::int64_t feature =
      kIsChannelLast ? place * grid.channels + channel : channel * p * p + place;
  return token * grid.channels * p * p + feature;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    patchify_kernel(const float* g_latents, T* g_tokens, Patches grid) {
  const std::int64_t i = thread_idx();
  if (i < grid.num_elements()) {
    g_tokens[token_element<false>(grid, i)] = static_cast<T>(g_latents[i]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    unpatchify_kernel(const T* g_tokens, float* g_latents, Patches grid) {
  const std::int64_t i = thread_idx();
  if (i < grid.num_elements()) {
    g_latents[i] = static_cast<float>(g_tokens[token_element<true>(grid, i)]);
  }
}

// A thread adds up kSize columns of one block of rows, in the order of the rows.
template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads)
    mean_rows_kernel(const T* g_x, T* g_out, std::int64_t rows, std::int64_t width,
                     std::int64_t block_size) {
  const std::int64_t units = width / kSize;
  const std::int64_t i = thread_idx();
  const std::int64_t block = i / units;
  const std::int64_t unit = i % units;
  const std::int64_t first = block * block_size;
  if (block > 0 && first >= rows) return;
  if (block > 0 && block_size == 0) return;
  const std::int64_t end = min(first + block_size, rows);
  float sums[kSize] = {};
#pragma unroll 8
  for (std::int64_t row = first; row < end; ++row) {
    const T* g_row = g_x + row * width;
    if constexpr (kSize == 1) {
      sums[0] += static_cast<float>(g_row[unit]);
    } else {
      float values[kSize];
      unpack(load_vector_once(g_row, unit), values);
#pragma unroll
      for (int j = 0; j < kSize; ++j) sums[j] += values[j];
    }
  }
  const float factor = end > first ? 1.0F / static_cast<float>(end - first) : 0.0F;
#pragma unroll
  for (float& sum : sums) sum *= factor;
  if constexpr (kSize == 1) {
    g_out[block * width + unit] = static_cast<T>(sums[0]);
  } else {
    store_vector(g_out + block * width, unit, sums);
  }
}

}  // namespace

void run(Gpu& gpu, const ops::Transpose& op) {
  const std::int64_t rows = op.x.dense().dim(0);
  const std::int64_t columns = op.x.dense().dim(1);
  if (op.x.dense().num_elements() == 0) return;
  const auto num_tiles =
      static_cast<unsigned>((rows + kTile - 1) / kTile * ((columns + kTile - 1) / kTile));
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    transpose_kernel<T><<<num_tiles, kThreads, 0, gpu.stream()>>>(
        data_of<const T>(op.x.dense()), data_of<T>(op.out), rows, columns);
  });
  check_launch("transpose");
}
template void compute(Gpu&, const ops::Transpose&);

void run(Gpu& gpu, const ops::Embedding& op) {
  if (op.out.num_elements() == 0) return;
  auto* g_ids = reinterpret_cast<std::int32_t*>(gpu.workspace(op.ids.size_bytes()));
  // The op.ids are in pageable memory, so they have been read when the call returns.
  check(cudaMemcpyAsync(g_ids, op.ids.data(), op.ids.size_bytes(), cudaMemcpyHostToDevice,
                        gpu.stream()),
        "copying token op.ids to the GPU");
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    embedding_kernel<T><<<static_cast<unsigned>(op.ids.size()), kThreads, 0, gpu.stream()>>>(
        g_ids, data_of<const T>(op.table), data_of<T>(op.out), op.table.dim(1));
  });
  check_launch("embedding");
}
template void compute(Gpu&, const ops::Embedding&);

void run(Gpu& gpu, const ops::Patchify& op) {
  const std::int64_t n = op.latents.num_elements();
  if (n == 0) return;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    patchify_kernel<<<num_blocks(n), kThreads, 0, gpu.stream()>>>(
        data_of<const float>(op.latents), data_of<T>(op.tokens),
        patches_of(op.latents, op.patch_size));
  });
  check_launch("patchify");
}
template void compute(Gpu&, const ops::Patchify&);

void run(Gpu& gpu, const ops::Unpatchify& op) {
  const std::int64_t n = op.latents.num_elements();
  if (n == 0) return;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    unpatchify_kernel<<<num_blocks(n), kThreads, 0, gpu.stream()>>>(
        data_of<const T>(op.tokens), data_of<float>(op.latents),
        patches_of(op.latents, op.patch_size));
  });
  check_launch("unpatchify");
}
template void compute(Gpu&, const ops::Unpatchify&);

void run(Gpu& gpu, const ops::MeanRows& op) {
  const std::int64_t width = op.x.dim(1);
  if (op.out.num_elements() == 0) return;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    const T* g_x = data_of<const T>(op.x);
    T* g_out = data_of<T>(op.out);
    if (has_vector_rows<T>(width, {g_x, g_out})) {
      constexpr int kSize = kVectorSize<T>;
      mean_rows_kernel<T, kSize>
          <<<num_blocks(op.out.num_elements() / kSize), kThreads, 0, gpu.stream()>>>(
              g_x, g_out, op.x.dim(0), width, op.rows_of_block());
    } else {
      mean_rows_kernel<T, 1><<<num_blocks(op.out.num_elements()), kThreads, 0, gpu.stream()>>>(
          g_x, g_out, op.x.dim(0), width, op.rows_of_block());
    }
  });
  check_launch("mean_rows");
}
template void compute(Gpu&, const ops::MeanRows&);

}  // namespace mochi::cuda
