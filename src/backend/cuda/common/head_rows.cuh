// Addresses of the heads of tokens.
#pragma once

#include <cstdint>

#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/common/vector.cuh"
#include "backend/ops/attention.h"

namespace mochi::cuda {

// The head_dim elements of head h and token t begin at g_data + h·head_stride + t·token_stride.
template <typename T>
struct HeadRows {
  const T* g_data;
  std::int64_t head_stride;
  int token_stride;

  __device__ const T* of(int head, int token = 0) const {
    return g_data + head * head_stride + static_cast<std::int64_t>(token) * token_stride;
  }
};

template <typename T>
HeadRows<T> rows_of(const HeadsView& heads) {
  return {.g_data = data_of<const T>(heads.tensor) + heads.first,
          .head_stride = heads.head_stride(),
          .token_stride = static_cast<int>(heads.token_stride())};
}

// Returns true if all rows begin at multiples of 16 bytes.
template <typename T>
bool has_vector_rows(const HeadsView& heads) {
  const T* g_data = rows_of<T>(heads).g_data;
  return has_vector_rows<T>(heads.token_stride(), {g_data}) &&
         has_vector_rows<T>(heads.head_stride(), {g_data});
}
template <typename T>
bool has_vector_rows(const AttentionInputs& in) {
  return has_vector_rows<T>(in.q) && has_vector_rows<T>(in.k) && has_vector_rows<T>(in.v);
}

}  // namespace mochi::cuda
