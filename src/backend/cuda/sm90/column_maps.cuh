// Tensor maps of the column-sparse kernel's queries and caches, for the copy engine.
#pragma once

#include <array>

#include "backend/cuda/sm90/attention_block.cuh"
#include "backend/cuda/sm90/column_attention.h"
#include "backend/cuda/sm90/tensor_map.h"

namespace mochi::cuda::sm90 {

constexpr int kWarps = kGroup / 32;  // warps of a warpgroup
constexpr int kRowBytes = kHeadDim * 2;
constexpr int kWarpRows = kGroupRows / kWarps;
constexpr int kCodeRowBytes = kHeadDim;  // bytes of a row of an F8_E4M3 cache

struct TensorMaps {
  CUtensorMap q, cache;
};

// Maps [heads, num_queries, 128] as (64 elements, queries, 2 panels, heads).
inline CUtensorMap map_queries(const ColumnProblem& p) {
  return make_tensor_map(
      p.q.g_data, std::array<std::int64_t, 4>{kPanel, p.num_queries, 2, p.num_heads},
      std::array<std::int64_t, 3>{kRowBytes, kRowBytes / 2,
                                  static_cast<std::int64_t>(p.num_queries) * kRowBytes},
      std::array{kPanel, kGroupRows, 2, 1});
}

// Maps [num_queries, heads·128] likewise, with boxes for one warp. A row of F8_E4M3 is one panel of
// pairs.
inline CUtensorMap map_cache(const ColumnProblem& p) {
  const int num_panels = p.g_cache_scale == nullptr ? 2 : 1;
  const int row_bytes = num_panels * kPanel * 2;
  return make_tensor_map(
      p.g_cache, std::array<std::int64_t, 4>{kPanel, p.num_queries, num_panels, p.num_heads},
      std::array<std::int64_t, 3>{static_cast<std::int64_t>(p.num_heads) * row_bytes, kPanel * 2,
                                  row_bytes},
      std::array{kPanel, kWarpRows, num_panels, 1});
}

// Without a cache, its map is a dummy that is never used.
inline TensorMaps make_maps(const ColumnProblem& p) {
  const CUtensorMap queries = map_queries(p);
  return {queries, p.g_cache == nullptr ? queries : map_cache(p)};
}

}  // namespace mochi::cuda::sm90
