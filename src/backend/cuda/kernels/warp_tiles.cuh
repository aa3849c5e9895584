// Tiles of bf16 in shared memory, and matmuls of one warp with them. Rows are kDim elements plus 16
// bytes of padding apart, so that eight neighbouring rows are in different banks.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "backend/cuda/device/cp_async.cuh"
#include "backend/cuda/device/mma.cuh"

namespace mochi::cuda {

using Bf16 = __nv_bfloat16;

constexpr int kChunkElements = 8;  // elements of 16 bytes

// kDim is a multiple of 16, which makes the distance of rows an odd number of chunks.
template <int kDim>
constexpr int kRowStride = kDim + kChunkElements;

// Calls copy(place, row, element) for every 16 bytes of a tile [kRows, kDim]: their place in shared
// memory, row_of() of their row in the tile, and the element of the row at which they begin. The
// row is negative if that element is num_there or later. Rows are computed four at a time, so that
// copies do not wait for each other.
template <int kRows, int kDim, int kThreads, typename RowOf, typename Copy>
__device__ void for_each_chunk(int num_there, RowOf row_of, Copy copy) {
  constexpr int kChunks = kDim / kChunkElements;
  constexpr int kTotal = kRows * kChunks;
  constexpr int kBatch = kTotal >= 4 * kThreads ? 4 : (kTotal + kThreads - 1) / kThreads;
  constexpr bool kIsWhole = kTotal % (kBatch * kThreads) == 0;
#pragma unroll 1
  for (int first = threadIdx.x; first < kTotal; first += kBatch * kThreads) {
    int rows[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int i = first + j * kThreads;
      const bool is_there = (kIsWhole || i < kTotal) && i % kChunks * kChunkElements < num_there;
      rows[j] = is_there ? row_of(i / kChunks) : -1;
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int i = first + j * kThreads;
      if (!kIsWhole && i >= kTotal) break;
      const int element = i % kChunks * kChunkElements;
      copy(i / kChunks * kRowStride<kDim> + element, rows[j], element);
    }
  }
}

// Starts to copy elements [0, kDim) of rows row_of(0…kRows) of g_x, which are `stride` elements
// apart and have num_there elements. Later elements and negative rows are filled with zeros. All
// addresses are multiples of 16 bytes.
template <int kRows, int kDim, int kThreads, typename RowOf>
__device__ void start_rows(Bf16* s_x, const Bf16* g_x, int stride, int num_there, RowOf row_of) {
  for_each_chunk<kRows, kDim, kThreads>(num_there, row_of, [&](int place, int row, int element) {
    const std::int64_t source = row < 0 ? 0 : static_cast<std::int64_t>(row) * stride + element;
    device::copy_16_bytes(s_x + place, g_x + source, row >= 0);
  });
}

// Loads the warp's 16 by 16 elements from s_x on as the left factor.
template <int kDim>
__device__ void load_left(std::uint32_t (&a)[4], const Bf16* s_x) {
  const int lane = threadIdx.x % 32;
  device::load_matrices(a, s_x + lane % 16 * kRowStride<kDim> + lane / 16 * 8);
}

// Loads 16 rows by 16 elements from s_x on as the right factor, transposed: the rows become its
// columns, eight in each of b[0], b[1].
template <int kDim>
__device__ void load_right_rows(std::uint32_t (&b)[2][2], const Bf16* s_x) {
  const int lane = threadIdx.x % 32;
  std::uint32_t r[4];
  device::load_matrices(r, s_x + (lane % 8 + lane / 16 * 8) * kRowStride<kDim> + lane / 8 % 2 * 8);
  b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

// Loads 16 rows by 16 elements from s_x on as the right factor, not transposed.
template <int kDim>
__device__ void load_right_columns(std::uint32_t (&b)[2][2], const Bf16* s_x) {
  const int lane = threadIdx.x % 32;
  std::uint32_t r[4];
  device::load_matrices_transposed(r, s_x + lane % 16 * kRowStride<kDim> + lane / 16 * 8);
  b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

// Returns the sum over the four threads that share a row of a product.
__device__ inline float sum_of_quad(float x) {
  x += __shfl_xor_sync(~0U, x, 1);
  return x + __shfl_xor_sync(~0U, x, 2);
}
__device__ inline float max_of_quad(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0U, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0U, x, 2));
}

}  // namespace mochi::cuda
