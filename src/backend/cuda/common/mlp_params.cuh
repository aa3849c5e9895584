// Parameters of the kernels of sparse feed-forward layers. One kernel computes the listed hidden
// columns of every block of tokens and stores their changes; a second one adds the changes, times
// w2, to the output.
#pragma once

#include <cstdint>

#include "backend/cuda/common/dispatch.cuh"

namespace mochi::cuda {

// The work for one block of tokens.
struct MlpBlock {
  const std::int32_t* g_columns;  // [num_columns]
  int num_columns, first_token, num_tokens;
  std::int64_t first_change;  // start of its changes [num_tokens, stride]
  int stride;                 // num_columns, rounded up to a multiple of 16 bytes of bf16
};

template <typename T, typename Change>
struct MlpParams {
  const T* g_x;                   // [num_tokens, width]
  const T* g_w1;                  // [2·hidden, width]
  const T* g_w2;                  // [hidden, width]
  T* g_activations;               // [num_tokens, hidden]
  T* g_out;                       // [num_tokens, width]
  T* g_means;                     // [blocks, 2·hidden]
  const std::int32_t* g_offsets;  // [blocks + 1]
  const std::int32_t* g_columns;  // [g_offsets[blocks]]
  Change* g_changes;              // the changes of all blocks, one after another
  int num_tokens, width, hidden, block_size, num_blocks;

  static constexpr int kMultiple = 8;
  __device__ static std::int64_t round_up(std::int64_t x) {
    return (x + kMultiple - 1) / kMultiple * kMultiple;
  }
  __device__ MlpBlock block(int i) const {
    const int num_columns = g_offsets[i + 1] - g_offsets[i];
    const std::int64_t first = round_up(g_offsets[i] + static_cast<std::int64_t>(i) * kMultiple);
    return {g_columns + g_offsets[i], num_columns,
            i * block_size,           min(block_size, num_tokens - i * block_size),
            first * block_size,       static_cast<int>(round_up(num_columns))};
  }
  static std::int64_t num_changes(std::int64_t num_columns, std::int64_t num_blocks,
                                  std::int64_t block_size) {
    return (num_columns + kMultiple * (num_blocks + 1)) * block_size;
  }

  __device__ T& activation(int token, int column) const {
    return g_activations[static_cast<std::int64_t>(token) * hidden + column];
  }
  __device__ void write_means(int i, int column, float gate_sum, float value_sum) const {
    const auto count = static_cast<float>(min(block_size, num_tokens - i * block_size));
    T* g_row = g_means + static_cast<std::int64_t>(i) * 2 * hidden;
    g_row[column] = static_cast<T>(gate_sum / count);
    g_row[hidden + column] = static_cast<T>(value_sum / count);
  }
};

__device__ inline float silu_times(float gate, float value) {
  return gate / (1.0F + expf(-gate)) * value;
}

using Bf16MlpParams = MlpParams<__nv_bfloat16, __nv_bfloat16>;

// Computes the update by tensor cores; width is a multiple of 8.
void update_mlp_by_mma(const Bf16MlpParams& params, cudaStream_t stream);

}  // namespace mochi::cuda
