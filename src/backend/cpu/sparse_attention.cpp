// Attention of query groups over their own columns, and the deltas for the other columns.
#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "backend/cpu/attention_tiles.h"
#include "backend/cpu/implement.h"
#include "backend/cpu/pointers.h"
#include "base/parallel_for.h"
#include "tensor/float8.h"

namespace mochi::cpu {
namespace {

// A smaller remaining mass is rounding error and is treated as zero.
constexpr float kMinRest = 1e-6F;
constexpr float kLseOfNothing = -1e30F;
constexpr std::int64_t kQueryGrain = 16;

std::uint8_t* codes(const TensorView& tensor) {
  return reinterpret_cast<std::uint8_t*>(tensor.bytes());
}

// Factors of the chosen columns' output and of the cache in the result.
struct Shares {
  float chosen = 1.0F, cached = 1.0F;
};

Shares shares_of(const AttentionDelta& delta, std::int64_t row, float lse) {
  if (!delta.weight) return {};
  const float weight = data(delta.weight)[row];
  if (!delta.is_merged) return {weight, 1.0F};
  const float chosen = 1.0F / (1.0F + std::exp(weight + delta.follow * lse - lse));
  return {chosen, 1.0F - chosen};
}

// Writes the queries [first, first + count) of a head, which `tile` has computed.
void write_tile(const TileAttention& tile, std::int64_t head, std::int64_t first,
                std::int64_t count, std::int64_t head_dim, const AttentionDelta& delta,
                const AttentionOutputs& to) {
  const std::int64_t width = to.out.dim(1);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t row = head * to.out.dim(0) + first + i;
    const std::int64_t at = (first + i) * width + head * head_dim;
    const float lse = tile.lse(i);
    if (to.lse) data(to.lse)[row] = lse;
    const Shares shares = shares_of(delta, row, lse);
    float* y = data(to.out) + at;
    tile.write(i, delta.cache ? shares.chosen : 1.0F, y);
    if (!delta.cache) continue;
    if (delta.cache_scale) {
      const std::uint8_t* cached = codes(delta.cache) + at;
      const float factor = shares.cached * data(delta.cache_scale)[row];
      for (std::int64_t d = 0; d < head_dim; ++d) y[d] += factor * f8_e4m3_to_f32(cached[d]);
    } else {
      const float* cached = data(delta.cache) + at;
      for (std::int64_t d = 0; d < head_dim; ++d) y[d] += shares.cached * cached[d];
    }
  }
}

// Rounds `values` to F8_E4M3 and returns the scale.
float round_to_f8(std::span<const float> values, std::uint8_t* rounded) {
  float highest = 0.0F;
  for (const float value : values) highest = std::max(highest, std::abs(value));
  const float scale = highest / kMaxF8E4M3;
  for (std::size_t d = 0; d < values.size(); ++d) {
    rounded[d] = f32_to_f8_e4m3(scale > 0.0F ? values[d] / scale : 0.0F);
  }
  return scale;
}

}  // namespace

void run(Cpu& /*cpu*/, const ops::ColumnSparseAttention& op) {
  const std::int64_t num_queries = op.in.q.dim(1);
  const std::int64_t head_dim = op.in.q.dim(2);
  const std::int64_t num_lists = op.columns.offsets.dim(0) - 1;
  const std::int64_t num_groups = num_lists / op.in.q.dim(0);
  const std::int32_t* offsets = ints(op.columns.offsets);
  std::int64_t longest = 0;
  for (std::int64_t i = 0; i < num_lists; ++i) {
    longest = std::max<std::int64_t>(longest, offsets[i + 1] - offsets[i]);
  }
  parallel_for(0, num_lists, 1, [&](std::int64_t begin, std::int64_t end) {
    PackedKeys packed(longest, head_dim);
    TileAttention tile(head_dim);
    for (std::int64_t list = begin; list < end; ++list) {
      const std::int64_t head = list / num_groups;
      const std::int64_t group_begin = list % num_groups * op.columns.group_size;
      const std::int64_t group_end = std::min(group_begin + op.columns.group_size, num_queries);
      packed.gather(rows_of(op.in.k, head), rows_of(op.in.v, head),
                    ints(op.columns.columns) + offsets[list], offsets[list + 1] - offsets[list]);
      for (std::int64_t first = group_begin; first < group_end; first += kQueryTile) {
        const std::int64_t count = std::min(kQueryTile, group_end - first);
        tile.run(packed, rows_of(op.in.q, head, first), count, op.in.scale, nullptr);
        write_tile(tile, head, first, count, head_dim, op.delta, op.to);
      }
    }
  });
}
template void compute(Cpu&, const ops::ColumnSparseAttention&);

void run(Cpu& /*cpu*/, const ops::FindDelta& op) {
  const std::int64_t num_queries = op.dense.out.dim(0);
  const std::int64_t width = op.dense.out.dim(1);
  const TensorView& of_heads = op.delta.weight ? op.delta.weight : op.delta.cache_scale;
  const std::int64_t num_heads = of_heads ? of_heads.dim(0) : 1;
  const std::int64_t head_dim = width / num_heads;
  parallel_for(0, num_queries, kQueryGrain, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> exact(static_cast<std::size_t>(head_dim));
    for (std::int64_t query = begin; query < end; ++query) {
      for (std::int64_t head = 0; head < num_heads; ++head) {
        const std::int64_t row = head * num_queries + query;
        float mass = 1.0F;     // softmax mass of the chosen columns
        float divisor = 1.0F;  // mass of the other columns, if the op.delta is merged
        if (op.delta.weight) {
          const float dense_lse = data(op.dense.lse)[row];
          const float chosen_lse = data(op.sparse.lse)[row];
          mass = std::min(std::exp(chosen_lse - dense_lse), 1.0F);
          const float rest = 1.0F - mass;
          const bool is_empty = rest < kMinRest;
          if (op.delta.is_merged) divisor = is_empty ? 1.0F : rest;
          data(op.delta.weight)[row] =
              !op.delta.is_merged ? mass
              : is_empty          ? kLseOfNothing
                                  : dense_lse + std::log(rest) - op.delta.follow * chosen_lse;
        }
        const std::int64_t at = query * width + head * head_dim;
        const float* full = data(op.dense.out) + at;
        const float* chosen = data(op.sparse.out) + at;
        float* cache = op.delta.cache_scale ? exact.data() : data(op.delta.cache) + at;
        for (std::int64_t d = 0; d < head_dim; ++d) {
          cache[d] = (full[d] - mass * chosen[d]) / divisor;
        }
        if (op.delta.cache_scale) {
          data(op.delta.cache_scale)[row] = round_to_f8(exact, codes(op.delta.cache) + at);
        }
      }
    }
  });
}
template void compute(Cpu&, const ops::FindDelta&);

}  // namespace mochi::cpu
