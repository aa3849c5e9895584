// Matmuls of tiles in fp32 by a block of 16 by 16 threads, for every width and dtype. They are slow
// compared with the tensor cores, and exact. Functions map a position in the tile to a row;
// negative rows stand for zeros.
#pragma once

#include <cstdint>

#include "backend/cuda/common/dispatch.cuh"

namespace mochi::cuda::simple {

constexpr int kSide = 16;
constexpr int kThreads = kSide * kSide;
constexpr int kTile = 64;            // rows of both factors
constexpr int kPer = kTile / kSide;  // a thread's part of them
constexpr int kChunk = 32;           // elements of a row in shared memory at a time
// Puts rows in different banks and keeps them 16-byte aligned.
constexpr int kStride = kChunk + 4;
constexpr int kFeatures = 128;  // features of the output of a weighted sum
constexpr int kValueRows = 32;  // its rows in shared memory at a time
constexpr int kWeightStride = kTile + 4;

struct SharedTiles {
  union {
    struct {
      float s_left[kTile * kStride], s_right[kTile * kStride];
    };
    float s_values[kValueRows * kFeatures];
  };
  float s_weights[kTile * kWeightStride];
};

// A thread's part of products [64, 64]: element (i, j) belongs to rows 4·y + i and x + 16·j.
using Products = float[kPer][kPer];
// A thread's part of weighted sums [64, 128]: features feature_of(j) of rows 4·y + i.
using Sums = float[kPer][kFeatures / kSide];

__device__ inline int thread_x() { return static_cast<int>(threadIdx.x) % kSide; }
__device__ inline int thread_y() { return static_cast<int>(threadIdx.x) / kSide; }
__device__ inline int feature_of(int j) { return j / 4 * (kFeatures / 2) + 4 * thread_x() + j % 4; }

// Rows that begin `stride` elements apart.
template <typename T>
struct Rows {
  const T* g_data;
  int stride;

  __device__ float at(std::int64_t row, int element) const {
    return static_cast<float>(g_data[row * stride + element]);
  }
};

// Loads elements [first, first + kChunk) of rows of `width` elements.
template <typename T, typename RowOf>
__device__ void load_chunk(Rows<T> x, int width, int first, RowOf row_of, float* s_x) {
  const int element = threadIdx.x % kChunk;
#pragma unroll 4
  for (int i = threadIdx.x / kChunk; i < kTile; i += kThreads / kChunk) {
    const std::int64_t row = row_of(i);
    const bool is_there = row >= 0 && first + element < width;
    s_x[i * kStride + element] = is_there ? x.at(row, first + element) : 0.0F;
  }
}

__device__ inline float4 read4(const float* s_x) { return *reinterpret_cast<const float4*>(s_x); }

// products = left rows · right rows, of `width` elements each.
template <typename T, typename LeftOf, typename RightOf>
__device__ void multiply_rows(Rows<T> left_rows, LeftOf left_of, Rows<T> right_rows,
                              RightOf right_of, int width, SharedTiles& s_tiles,
                              Products& products) {
  for (auto& row : products) {
    for (float& product : row) product = 0.0F;
  }
  for (int first = 0; first < width; first += kChunk) {
    __syncthreads();
    load_chunk(left_rows, width, first, left_of, s_tiles.s_left);
    load_chunk(right_rows, width, first, right_of, s_tiles.s_right);
    __syncthreads();
#pragma unroll 2
    for (int d = 0; d < kChunk; d += 4) {
      float4 right[kPer];
      for (int j = 0; j < kPer; ++j) {
        right[j] = read4(s_tiles.s_right + (thread_x() + kSide * j) * kStride + d);
      }
      for (int i = 0; i < kPer; ++i) {
        const float4 left = read4(s_tiles.s_left + (thread_y() * kPer + i) * kStride + d);
        for (int j = 0; j < kPer; ++j) {
          float& product = products[i][j];
          product = fmaf(left.x, right[j].x, product);
          product = fmaf(left.y, right[j].y, product);
          product = fmaf(left.z, right[j].z, product);
          product = fmaf(left.w, right[j].w, product);
        }
      }
    }
  }
}

// Stores the weights as the left factor of add_values(), which waits for all threads.
__device__ inline void store_weights(const Products& products, SharedTiles& s_tiles) {
  for (int i = 0; i < kPer; ++i) {
    for (int j = 0; j < kPer; ++j) {
      s_tiles.s_weights[(thread_y() * kPer + i) * kWeightStride + thread_x() + kSide * j] =
          products[i][j];
    }
  }
}

// sums += s_weights [64, 64] · features [first_feature, first_feature + 128) of the 64 rows of
// `values`, which have `width` elements.
template <typename T, typename RowOf>
__device__ void add_values(Rows<T> values, RowOf row_of, int width, int first_feature,
                           SharedTiles& s_tiles, Sums& sums) {
  for (int first = 0; first < kTile; first += kValueRows) {
    __syncthreads();
#pragma unroll 4
    for (int i = threadIdx.x; i < kValueRows * kFeatures; i += kThreads) {
      const std::int64_t row = row_of(first + i / kFeatures);
      const int feature = first_feature + i % kFeatures;
      s_tiles.s_values[i] = row >= 0 && feature < width ? values.at(row, feature) : 0.0F;
    }
    __syncthreads();
#pragma unroll 2
    for (int row = 0; row < kValueRows; ++row) {
      const float* s_row = s_tiles.s_values + row * kFeatures + 4 * thread_x();
      const float4 low = read4(s_row);
      const float4 high = read4(s_row + kFeatures / 2);
      for (int i = 0; i < kPer; ++i) {
        const float weight =
            s_tiles.s_weights[(thread_y() * kPer + i) * kWeightStride + first + row];
        sums[i][0] = fmaf(weight, low.x, sums[i][0]);
        sums[i][1] = fmaf(weight, low.y, sums[i][1]);
        sums[i][2] = fmaf(weight, low.z, sums[i][2]);
        sums[i][3] = fmaf(weight, low.w, sums[i][3]);
        sums[i][4] = fmaf(weight, high.x, sums[i][4]);
        sums[i][5] = fmaf(weight, high.y, sums[i][5]);
        sums[i][6] = fmaf(weight, high.z, sums[i][6]);
        sums[i][7] = fmaf(weight, high.w, sums[i][7]);
      }
    }
  }
}

}  // namespace mochi::cuda::simple
