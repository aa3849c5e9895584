// Epilogues of the fused matmuls on Hopper. Each names the rows of the
// weight that belong to a tile, and turns its results into the output.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "backend/cuda/common/activation.cuh"
#include "backend/cuda/common/norm_rope.cuh"
#include "backend/cuda/sm90/fused_linear.h"
#include "backend/cuda/sm90/linear_tile.cuh"

namespace mochi::cuda::sm90 {

// out = act(a)·b.
template <typename Tile, Activation kActivation>
struct Gate {
  __nv_bfloat16* g_out;
  std::int64_t rows, features;

  __device__ int first_weight_row(int column_idx, int half) const {
    return column_idx * Tile::kHalf + half * static_cast<int>(features);
  }
  // Called by whole warps. `row` is the row of s_out, `out_row` that of the output.
  __device__ void finish(const unsigned char* s_out, int row, int out_row, int column_idx,
                         int lane) const {
    if (out_row >= rows) return;
    float a[Tile::kSize];
    float b[Tile::kSize];
    unpack(read_results<Tile>(s_out, 0, row, lane), a);
    unpack(read_results<Tile>(s_out, 1, row, lane), b);
#pragma unroll
    for (int i = 0; i < Tile::kSize; ++i) a[i] = activate<__nv_bfloat16, kActivation>(a[i]) * b[i];
    store_vector(g_out + out_row * features + column_idx * Tile::kHalf, lane, a);
  }
};

// Stores the results of two times 128 columns that are neighbours.
template <typename Tile>
struct Store {
  __nv_bfloat16* g_out;
  std::int64_t rows, n;

  __device__ int first_weight_row(int column_idx, int half) const {
    return (2 * column_idx + half) * Tile::kHalf;
  }
  __device__ void finish(const unsigned char* s_out, int row, int out_row, int column_idx,
                         int lane) const {
    if (out_row >= rows) return;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int column = first_weight_row(column_idx, half);
      if (column >= n) return;
      reinterpret_cast<uint4*>(g_out + out_row * n + column)[lane] =
          read_results<Tile>(s_out, half, row, lane);
    }
  }
};

// Writes q and k of one head, normalised and rotated; after the q and k of all heads, v of two.
template <typename Tile>
struct SplitQkv {
  QkvLinearParams to;

  __device__ int first_weight_row(int column_idx, int half) const {
    const auto heads = static_cast<int>(to.heads);
    return (column_idx < heads ? column_idx + half * heads : 2 * column_idx + half) * Tile::kHalf;
  }
  __device__ void finish(const unsigned char* s_out, int row, int out_row, int column_idx,
                         int lane) const {
    const bool is_there = out_row < to.tokens;
    const uint4 first = read_results<Tile>(s_out, 0, row, lane);
    const uint4 second = read_results<Tile>(s_out, 1, row, lane);
    if (column_idx >= to.heads) {
      const std::int64_t head = 2 * (column_idx - to.heads);
      if (is_there) store(to.g_v, head, out_row, lane, first);
      if (is_there && head + 1 < to.heads) store(to.g_v, head + 1, out_row, lane, second);
      return;
    }
    float cosines[Tile::kSize / 2];
    float sines[Tile::kSize / 2];
    if (to.g_cos != nullptr) {
      // Rows after the last one take part in the sums over lanes; they use the last row's angles.
      const std::int64_t token = is_there ? out_row : to.tokens - 1;
      const std::int64_t offset = (token * to.heads + column_idx) * (Tile::kHalf / 2) + lane * 4;
      load_floats(to.g_cos + offset, cosines);
      load_floats(to.g_sin + offset, sines);
    }
    const auto finish_part = [&](const uint4& part, const float* g_weight, void* g_target) {
      float values[Tile::kSize];
      float weight[Tile::kSize];
      unpack(part, values);
#pragma unroll
      for (int i = 0; i < Tile::kSize; ++i) weight[i] = __ldg(g_weight + lane * Tile::kSize + i);
      norm<Tile::kLanes>(values, weight, to.eps);
      if (to.g_cos != nullptr) rotate(values, cosines, sines);
      if (is_there) store(g_target, column_idx, out_row, lane, pack(values));
    };
    finish_part(first, to.g_q_weight, to.g_q);
    finish_part(second, to.g_k_weight, to.g_k);
  }

 private:
  __device__ void store(void* g_target, std::int64_t head, int token, int lane,
                        const uint4& values) const {
    const std::int64_t row = head * to.total + to.offset + token;
    static_cast<uint4*>(g_target)[row * Tile::kLanes + lane] = values;
  }
};

}  // namespace mochi::cuda::sm90
