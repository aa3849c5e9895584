// Tensor maps of the column-sparse kernel's queries and caches, for the copy engine.
#pragma once

#include <array>

#include "backend/cuda/sm90/attention_block.cuh"
#include "backend/cuda/sm90/column_attention.h"
#include "backend/cuda/sm90/tensor_map.h"

namespace mochi::cuda::sm90 {

struct ColumnMaps {
  CUtensorMap q, cache;
};

// Maps [heads, num_queries, 128] as (64 elements, queries, 2 panels, heads).
template <typename Tile>
inline CUtensorMap map_queries(const ColumnParams& p) {
  return make_tensor_map(
      p.q.g_data, std::array<std::int64_t, 4>{Tile::kPanel, p.num_queries, 2, p.num_heads},
      std::array<std::int64_t, 3>{Tile::kRowBytes, Tile::kRowBytes / 2,
                                  static_cast<std::int64_t>(p.num_queries) * Tile::kRowBytes},
      std::array{Tile::kPanel, Tile::kGroupRows, 2, 1});
}

// Maps [num_queries, heads·128] likewise, with boxes for one warp. A row of F8_E4M3 is one panel of
// pairs.
template <typename Tile>
inline CUtensorMap map_cache(const ColumnParams& p) {
  const int num_panels = p.g_cache_scale == nullptr ? 2 : 1;
  const int row_bytes = num_panels * Tile::kPanel * 2;
  return make_tensor_map(
      p.g_cache, std::array<std::int64_t, 4>{Tile::kPanel, p.num_queries, num_panels, p.num_heads},
      std::array<std::int64_t, 3>{static_cast<std::int64_t>(p.num_heads) * row_bytes,
                                  Tile::kPanel * 2, row_bytes},
      std::array{Tile::kPanel, Tile::kWarpRows, num_panels, 1});
}

// Without a cache, its map is a dummy that is never used.
template <typename Tile>
inline ColumnMaps make_column_maps(const ColumnParams& p) {
  const CUtensorMap queries = map_queries<Tile>(p);
  return {queries, p.g_cache == nullptr ? queries : map_cache<Tile>(p)};
}

}  // namespace mochi::cuda::sm90
