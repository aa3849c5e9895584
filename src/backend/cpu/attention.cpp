// Dense attention. Heads are computed in turn; the keys and values of each are packed once.
#include <algorithm>

#include "backend/cpu/attention_tiles.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/pointers.h"
#include "base/parallel_for.h"

namespace mochi {
namespace {

// Computes the queries [first, first + count) of a head.
void attend_tile(const AttentionInputs& in, const cpu::PackedKeys& packed, std::int64_t head,
                 std::int64_t first, std::int64_t count, const cpu::TileScores& scores,
                 cpu::TileAttention& tile, const AttentionOutputs& to) {
  const std::int64_t head_dim = packed.head_dim();
  const std::int64_t row = head * in.q.dim(1) + first;
  tile.run(packed, cpu::rows_of(in.q, head, first), count, in.scale,
           in.bias ? data(in.bias) + row * packed.num_keys() : nullptr, scores);
  for (std::int64_t i = 0; i < count; ++i) {
    tile.write(i, 1.0F, data(to.out) + (first + i) * to.out.dim(1) + head * head_dim);
    if (to.lse) data(to.lse)[row + i] = tile.lse(i);
  }
}

}  // namespace

void CpuBackend::do_attention(const AttentionInputs& in, const AttentionOutputs& to) {
  const std::int64_t num_queries = in.q.dim(1);
  const std::int64_t head_dim = in.q.dim(2);
  const std::int64_t num_tiles = (num_queries + cpu::kQueryTile - 1) / cpu::kQueryTile;
  cpu::PackedKeys packed(in.k.dim(1), head_dim);
  for (std::int64_t head = 0; head < in.q.dim(0); ++head) {
    packed.pack(cpu::rows_of(in.k, head), cpu::rows_of(in.v, head), in.k.dim(1));
    parallel_for(0, num_tiles, 1, [&](std::int64_t begin, std::int64_t end) {
      cpu::TileAttention tile(head_dim);
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t first = i * cpu::kQueryTile;
        const std::int64_t count = std::min(cpu::kQueryTile, num_queries - first);
        attend_tile(in, packed, head, first, count, {}, tile, to);
      }
    });
  }
}

// Groups are computed in turn, so that only one thread writes the sums of a group.
void CpuBackend::do_attention_with_column_sums(const AttentionInputs& in, const ColumnSums& scores,
                                               const AttentionOutputs& to) {
  const std::int64_t num_queries = in.q.dim(1);
  const std::int64_t num_keys = in.k.dim(1);
  const std::int64_t head_dim = in.q.dim(2);
  const std::int64_t num_groups = scores.sums.dim(1);
  cpu::PackedKeys packed(num_keys, head_dim);
  for (std::int64_t head = 0; head < in.q.dim(0); ++head) {
    packed.pack(cpu::rows_of(in.k, head), cpu::rows_of(in.v, head), num_keys);
    parallel_for(0, num_groups, 1, [&](std::int64_t begin, std::int64_t end) {
      cpu::TileAttention tile(head_dim);
      for (std::int64_t group = begin; group < end; ++group) {
        float* sums = data(scores.sums) + (head * num_groups + group) * num_keys;
        std::fill_n(sums, num_keys, 0.0F);
        const std::int64_t group_begin = group * scores.group_size;
        const std::int64_t group_end = std::min(group_begin + scores.group_size, num_queries);
        for (std::int64_t first = group_begin; first < group_end; first += cpu::kQueryTile) {
          const std::int64_t stride = scores.query_stride;
          const std::int64_t skipped = (group_begin - first) % stride;
          const cpu::TileScores tile_scores{data(scores.lse) + head * num_queries + first, sums,
                                            (skipped + stride) % stride, stride};
          attend_tile(in, packed, head, first, std::min(cpu::kQueryTile, group_end - first),
                      tile_scores, tile, to);
        }
      }
    });
  }
}

}  // namespace mochi
