// Dense attention. Heads are computed in turn; the keys and values of each are packed once.
#include <algorithm>

#include "backend/cpu/attention_tiles.h"
#include "backend/cpu/implement.h"
#include "backend/cpu/pointers.h"
#include "base/parallel_for.h"

namespace mochi::cpu {
namespace {

// Computes the queries [first, first + count) of a head.
void attend_tile(const AttentionInputs& in, const PackedKeys& packed, std::int64_t head,
                 std::int64_t first, std::int64_t count, const TileScores& scores,
                 TileAttention& tile, const AttentionOutputs& to) {
  const std::int64_t head_dim = packed.head_dim();
  const std::int64_t row = head * in.q.dim(1) + first;
  tile.run(packed, rows_of(in.q, head, first), count, in.scale,
           in.bias ? data(in.bias) + row * packed.num_keys() : nullptr, scores);
  for (std::int64_t i = 0; i < count; ++i) {
    tile.write(i, 1.0F, data(to.out) + (first + i) * to.out.dim(1) + head * head_dim);
    if (to.lse) data(to.lse)[row + i] = tile.lse(i);
  }
}

}  // namespace

void run(Cpu& /*cpu*/, const ops::Attention& op) {
  const std::int64_t num_queries = op.in.q.dim(1);
  const std::int64_t head_dim = op.in.q.dim(2);
  const std::int64_t num_tiles = (num_queries + kQueryTile - 1) / kQueryTile;
  PackedKeys packed(op.in.k.dim(1), head_dim);
  for (std::int64_t head = 0; head < op.in.q.dim(0); ++head) {
    packed.pack(rows_of(op.in.k, head), rows_of(op.in.v, head), op.in.k.dim(1));
    parallel_for(0, num_tiles, 1, [&](std::int64_t begin, std::int64_t end) {
      TileAttention tile(head_dim);
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t first = i * kQueryTile;
        const std::int64_t count = std::min(kQueryTile, num_queries - first);
        attend_tile(op.in, packed, head, first, count, {}, tile, op.to);
      }
    });
  }
}
template void compute(Cpu&, const ops::Attention&);

// Groups are computed in turn, so that only one thread writes the sums of a group.
void run(Cpu& /*cpu*/, const ops::AttentionWithColumnSums& op) {
  const std::int64_t num_queries = op.in.q.dim(1);
  const std::int64_t num_keys = op.in.k.dim(1);
  const std::int64_t head_dim = op.in.q.dim(2);
  const std::int64_t num_groups = op.sums.dim(1);
  PackedKeys packed(num_keys, head_dim);
  for (std::int64_t head = 0; head < op.in.q.dim(0); ++head) {
    packed.pack(rows_of(op.in.k, head), rows_of(op.in.v, head), num_keys);
    parallel_for(0, num_groups, 1, [&](std::int64_t begin, std::int64_t end) {
      TileAttention tile(head_dim);
      for (std::int64_t group = begin; group < end; ++group) {
        float* sums = data(op.sums) + (head * num_groups + group) * num_keys;
        std::fill_n(sums, num_keys, 0.0F);
        const std::int64_t group_begin = group * op.group_size;
        const std::int64_t group_end = std::min(group_begin + op.group_size, num_queries);
        for (std::int64_t first = group_begin; first < group_end; first += kQueryTile) {
          const std::int64_t stride = op.query_stride;
          const std::int64_t skipped = (group_begin - first) % stride;
          const TileScores tile_scores{data(op.scores_lse) + head * num_queries + first, sums,
                                       (skipped + stride) % stride, stride};
          attend_tile(op.in, packed, head, first, std::min(kQueryTile, group_end - first),
                      tile_scores, tile, op.to);
        }
      }
    });
  }
}
template void compute(Cpu&, const ops::AttentionWithColumnSums&);

}  // namespace mochi::cpu
