// Attention in tiles with a running softmax (as in FlashAttention): the logits of a tile of queries
// against a tile of keys are all that is ever in memory. One head after the other: its keys and
// values are first packed into the order in which products read them.
#include <algorithm>
#include <limits>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/register_tile.h"
#include "backend/cpu/simd_math.h"
#include "base/parallel_for.h"

namespace mochi {

namespace {

using Tile = cpu::RegisterTile<2, 6>;

// A tile's queries, logits, keys and values fit into an L2 cache of 512 KiB at head_dim 128.
constexpr std::int64_t kQueryTile = 96;
constexpr std::int64_t kKeyTile = 128;
static_assert(kQueryTile % Tile::kRows == 0 && kKeyTile % Tile::kColumns == 0);

float* data(const TensorView& tensor) { return tensor.f32().data(); }

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Keys and values of one head; what rounds them up to whole tiles is zero.
class PackedHead {
 public:
  PackedHead(std::int64_t num_keys, std::int64_t head_dim)
      : num_keys_(num_keys),
        head_dim_(head_dim),
        padded_dim_(round_up(head_dim, Tile::kColumns)),
        keys_(static_cast<std::size_t>(round_up(num_keys, Tile::kColumns) * head_dim)),
        values_(static_cast<std::size_t>(num_keys * padded_dim_)) {}

  void pack(const float* k, const float* v) {
    const std::int64_t num_groups = (num_keys_ + Tile::kColumns - 1) / Tile::kColumns;
    parallel_for(0, num_groups, 1, [=, this](std::int64_t begin, std::int64_t end) {
      for (std::int64_t group = begin; group < end; ++group) pack_keys(k, group * Tile::kColumns);
    });
    const std::int64_t num_tiles = (num_keys_ + kKeyTile - 1) / kKeyTile;
    parallel_for(0, num_tiles, 1, [=, this](std::int64_t begin, std::int64_t end) {
      for (std::int64_t tile = begin; tile < end; ++tile) pack_values(v, tile * kKeyTile);
    });
  }

  std::int64_t num_keys() const { return num_keys_; }
  std::int64_t head_dim() const { return head_dim_; }
  std::int64_t padded_dim() const { return padded_dim_; }
  // Keys [first, first + kColumns) as [head_dim, kColumns]; `first` is a multiple of kColumns.
  const float* keys(std::int64_t first) const { return keys_.data() + first * head_dim_; }
  // Values [first_key, first_key + keys) of features [feature, feature + kColumns), as [keys,
  // kColumns], where the two begin a key tile and `feature` is a multiple of kColumns.
  const float* values(std::int64_t first_key, std::int64_t keys, std::int64_t feature) const {
    return values_.data() + first_key * padded_dim_ + feature * keys;
  }

 private:
  void pack_keys(const float* k, std::int64_t first) {
    float* target = keys_.data() + first * head_dim_;
    const std::int64_t count = std::min(Tile::kColumns, num_keys_ - first);
    for (std::int64_t d = 0; d < head_dim_; ++d, target += Tile::kColumns) {
      for (std::int64_t j = 0; j < count; ++j) target[j] = k[(first + j) * head_dim_ + d];
    }
  }

  void pack_values(const float* v, std::int64_t first) {
    float* target = values_.data() + first * padded_dim_;
    const std::int64_t keys = std::min(kKeyTile, num_keys_ - first);
    for (std::int64_t feature = 0; feature < head_dim_; feature += Tile::kColumns) {
      const std::int64_t count = std::min(Tile::kColumns, head_dim_ - feature);
      for (std::int64_t j = 0; j < keys; ++j, target += Tile::kColumns) {
        std::copy_n(v + (first + j) * head_dim_ + feature, count, target);
      }
    }
  }

  std::int64_t num_keys_, head_dim_, padded_dim_;
  std::vector<float> keys_, values_;
};

// Running state of one tile of queries.
struct TileState {
  explicit TileState(const PackedHead& head)
      : queries(static_cast<std::size_t>(kQueryTile * head.head_dim())),
        out(static_cast<std::size_t>(kQueryTile * head.padded_dim())) {}

  std::vector<float> queries;  // [queries / kRows, head_dim, kRows], scaled
  std::vector<float> logits = std::vector<float>(kQueryTile * kKeyTile);
  std::vector<float> out;  // [queries, padded_dim], not yet divided by `sum`
  std::vector<float> max = std::vector<float>(kQueryTile);
  std::vector<float> sum = std::vector<float>(kQueryTile);
  std::vector<float> correction = std::vector<float>(kQueryTile);  // of `out` so far

  // `count` queries; the rest of the tile is computed, too, and ignored.
  void start(const float* q, std::int64_t count, float scale) {
    const auto width = std::ssize(queries) / kQueryTile;
    for (std::int64_t row = 0; row < count; ++row, q += width) {
      float* target = queries.data() + row / Tile::kRows * Tile::kRows * width + row % Tile::kRows;
      for (std::int64_t d = 0; d < width; ++d) target[d * Tile::kRows] = q[d] * scale;
    }
    std::ranges::fill(out, 0.0F);
    std::ranges::fill(max, -std::numeric_limits<float>::max());
    std::ranges::fill(sum, 0.0F);
  }
};

// Turns one row of logits into exp(logit + bias − max) and returns their sum; `max` grows, and
// `correction` is what earlier results must be multiplied with.
float softmax_row(float* logits, std::int64_t num_keys, const float* bias, float& max,
                  float& correction) {
  float new_max = max;
  if (bias != nullptr) {
    for (std::int64_t j = 0; j < num_keys; ++j) logits[j] += bias[j];
  }
#pragma omp simd reduction(max : new_max)
  for (std::int64_t j = 0; j < num_keys; ++j) {
    const float logit = logits[j];  // by value: std::max on references does not vectorise
    new_max = new_max < logit ? logit : new_max;
  }
  correction = cpu::fast_exp(max - new_max);
  max = new_max;
  float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < num_keys; ++j) {
    logits[j] = cpu::fast_exp(logits[j] - new_max);
    sum += logits[j];
  }
  return sum;
}

// logits [count, keys] of keys from `first` on.
void find_logits(const PackedHead& head, std::int64_t first, std::int64_t keys, std::int64_t count,
                 TileState& state) {
  for (std::int64_t key = 0; key < keys; key += Tile::kColumns) {
    for (std::int64_t row = 0; row < count; row += Tile::kRows) {
      Tile tile;
      tile.add_product<Tile::kRows>(state.queries.data() + row * head.head_dim(), 1,
                                    head.head_dim(), head.keys(first + key));
      float* target = state.logits.data() + row * kKeyTile + key;
      tile.for_each([target](std::int64_t i, std::int64_t column, const cpu::Vec& sums) {
        cpu::store(sums, target + i * kKeyTile + column);
      });
    }
  }
}

// out = out·correction + weights [count, keys]·values.
void add_values(const PackedHead& head, std::int64_t first, std::int64_t keys, std::int64_t count,
                TileState& state) {
  const std::int64_t width = head.padded_dim();
  for (std::int64_t feature = 0; feature < width; feature += Tile::kColumns) {
    const float* values = head.values(first, keys, feature);
    for (std::int64_t row = 0; row < count; row += Tile::kRows) {
      Tile tile;
      tile.add_product(state.logits.data() + row * kKeyTile, kKeyTile, keys, values);
      const float* correction = state.correction.data() + row;
      float* target = state.out.data() + row * width + feature;
      tile.for_each([=](std::int64_t i, std::int64_t column, const cpu::Vec& sums) {
        float* out = target + i * width + column;
        cpu::store(cpu::load(out) * correction[i] + sums, out);
      });
    }
  }
}

// One tile of queries of one head against all its keys.
void attend_tile(const AttentionInputs& in, const PackedHead& packed, std::int64_t head,
                 std::int64_t first_query, TileState& state, const TensorView& out) {
  const std::int64_t num_queries = in.q.dim(1);
  const std::int64_t head_dim = packed.head_dim();
  const std::int64_t num_keys = packed.num_keys();
  const std::int64_t count = std::min(kQueryTile, num_queries - first_query);
  const std::int64_t first_row = head * num_queries + first_query;
  const float* bias = in.bias ? data(in.bias) + first_row * num_keys : nullptr;
  state.start(data(in.q) + first_row * head_dim, count, in.scale);
  for (std::int64_t first = 0; first < num_keys; first += kKeyTile) {
    const std::int64_t keys = std::min(kKeyTile, num_keys - first);
    find_logits(packed, first, keys, count, state);
    for (std::int64_t row = 0; row < count; ++row) {
      const float sum = softmax_row(state.logits.data() + row * kKeyTile, keys,
                                    bias == nullptr ? nullptr : bias + row * num_keys + first,
                                    state.max[row], state.correction[row]);
      state.sum[row] = state.sum[row] * state.correction[row] + sum;
    }
    add_values(packed, first, keys, count, state);
  }
  for (std::int64_t row = 0; row < count; ++row) {
    const float factor = 1.0F / state.sum[row];
    const float* result = state.out.data() + row * packed.padded_dim();
    float* y = data(out) + (first_query + row) * out.dim(1) + head * head_dim;
    for (std::int64_t d = 0; d < head_dim; ++d) y[d] = result[d] * factor;
  }
}

}  // namespace

void CpuBackend::do_attention(const AttentionInputs& in, const TensorView& out) {
  const std::int64_t num_keys = in.k.dim(1);
  const std::int64_t head_dim = in.q.dim(2);
  const std::int64_t num_tiles = (in.q.dim(1) + kQueryTile - 1) / kQueryTile;
  PackedHead packed(num_keys, head_dim);
  for (std::int64_t head = 0; head < in.q.dim(0); ++head) {
    const std::int64_t offset = head * num_keys * head_dim;
    packed.pack(data(in.k) + offset, data(in.v) + offset);
    parallel_for(0, num_tiles, 1, [&](std::int64_t begin, std::int64_t end) {
      TileState state(packed);
      for (std::int64_t tile = begin; tile < end; ++tile) {
        attend_tile(in, packed, head, tile * kQueryTile, state, out);
      }
    });
  }
}

}  // namespace mochi
