// Rows that a warp holds in registers, and vectors that rows share. In the usual case every byte of
// a row is read once; other widths take a slower path.
#pragma once

#include <initializer_list>

#include "backend/cuda/common/vector.cuh"

namespace mochi::cuda {

constexpr int kRowThreads = 256;
constexpr int kRowWarps = kRowThreads / 32;  // rows of a block at a time
constexpr int kMaxVectors = 12;              // vectors of a row per lane: widths up to 3072 in bf16

// A vector [width] f32 in shared memory, as num_vectors vectors of T's size. Consecutive vectors
// are 16 bytes apart for every size, so that a warp reads them without bank conflicts.
template <typename T>
struct SharedVectors {
  static constexpr int kParts = kVectorSize<T> / 4;

  float4* s_parts;
  int num_vectors;

  __device__ float& at(int column) const {
    const int vector_idx = column / kVectorSize<T>;
    const int part = column % kVectorSize<T> / 4;
    return reinterpret_cast<float*>(s_parts + part * num_vectors + vector_idx)[column % 4];
  }
  __device__ void load(int vector_idx, float (&values)[kVectorSize<T>]) const {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const float4 loaded = s_parts[part * num_vectors + vector_idx];
      values[4 * part] = loaded.x;
      values[4 * part + 1] = loaded.y;
      values[4 * part + 2] = loaded.z;
      values[4 * part + 3] = loaded.w;
    }
  }
};

// A row in the registers of a warp: vector i·32 + lane is in vectors[i]. Elements after its end are
// zero.
template <typename T>
struct WarpRow {
  uint4 vectors[kMaxVectors];

  __device__ void load(const T* g_row, int lane, int num_vectors) {
#pragma unroll
    for (int i = 0; i < kMaxVectors; ++i) {
      vectors[i] = {0, 0, 0, 0};
      if (i * 32 + lane < num_vectors) vectors[i] = load_vector(g_row, i * 32 + lane);
    }
  }
  // Returns Σ x² over the row, in all lanes.
  __device__ float sum_squares() const {
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kMaxVectors; ++i) {
      float values[kVectorSize<T>];
      unpack(vectors[i], values);
#pragma unroll
      for (float value : values) sum += value * value;
    }
    return sum_over_lanes(sum);
  }
};

// Calls fn(column) for every column, distributed over a warp, and returns the sum of its results.
template <typename Fn>
__device__ float sum_columns(int width, Fn fn) {
  float sum = 0.0F;
  for (int column = threadIdx.x % 32; column < width; column += 32) sum += fn(column);
  return sum_over_lanes(sum);
}

// Returns true if a warp can hold such rows.
template <typename T>
bool fits_warp(std::int64_t width, std::initializer_list<const void*> pointers) {
  return has_vector_rows<T>(width, pointers) && width <= kMaxVectors * 32 * kVectorSize<T>;
}

inline unsigned blocks_of(std::int64_t rows) {
  return static_cast<unsigned>((rows + kRowWarps - 1) / kRowWarps);
}

}  // namespace mochi::cuda
