#include "backend/cpu/attention_tiles.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/register_tile.h"
#include "backend/cpu/simd_math.h"
#include "base/parallel_for.h"

namespace mochi::cpu {
namespace {

using Tile = AttentionTile;

// Turns one row of logits into exp(logit + bias − max) and returns their sum. Raises `max` if
// needed; earlier results must then be multiplied by `correction`.
float softmax_row(float* logits, std::int64_t num_keys, float& max, float& correction) {
  float new_max = max;
#pragma omp simd reduction(max : new_max)
  for (std::int64_t j = 0; j < num_keys; ++j) {
    const float logit = logits[j];  // by value: std::max on references does not vectorise
    new_max = new_max < logit ? logit : new_max;
  }
  correction = fast_exp(max - new_max);
  max = new_max;
  float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < num_keys; ++j) {
    logits[j] = fast_exp(logits[j] - new_max);
    sum += logits[j];
  }
  return sum;
}

}  // namespace

PackedKeys::PackedKeys(std::int64_t max_keys, std::int64_t head_dim)
    : head_dim_(head_dim),
      padded_dim_(round_up(head_dim, Tile::kColumns)),
      keys_(static_cast<std::size_t>(round_up(max_keys, Tile::kColumns) * head_dim)),
      values_(static_cast<std::size_t>(max_keys * padded_dim_)) {}

template <typename RowOf>
void PackedKeys::pack_keys(Rows k, std::int64_t first, RowOf row_of) {
  float* target = keys_.data() + first * head_dim_;
  const std::int64_t count = std::min(Tile::kColumns, num_keys_ - first);
  for (std::int64_t j = 0; j < count; ++j) {
    const float* row = k.data + row_of(first + j) * k.stride;
    for (std::int64_t d = 0; d < head_dim_; ++d) target[d * Tile::kColumns + j] = row[d];
  }
  for (std::int64_t j = count; j < Tile::kColumns; ++j) {
    for (std::int64_t d = 0; d < head_dim_; ++d) target[d * Tile::kColumns + j] = 0.0F;
  }
}

template <typename RowOf>
void PackedKeys::pack_values(Rows v, std::int64_t first, RowOf row_of) {
  float* target = values_.data() + first * padded_dim_;
  const std::int64_t keys = std::min(kKeyTile, num_keys_ - first);
  for (std::int64_t j = 0; j < keys; ++j) {
    const float* row = v.data + row_of(first + j) * v.stride;
    for (std::int64_t feature = 0; feature < head_dim_; feature += Tile::kColumns) {
      std::copy_n(row + feature, std::min(Tile::kColumns, head_dim_ - feature),
                  target + feature * keys + j * Tile::kColumns);
    }
  }
}

void PackedKeys::pack(Rows k, Rows v, std::int64_t num_keys) {
  num_keys_ = num_keys;
  const auto same = [](std::int64_t row) { return row; };
  const std::int64_t num_groups = (num_keys + Tile::kColumns - 1) / Tile::kColumns;
  parallel_for(0, num_groups, 1, [=, this](std::int64_t begin, std::int64_t end) {
    for (std::int64_t group = begin; group < end; ++group) {
      pack_keys(k, group * Tile::kColumns, same);
    }
  });
  const std::int64_t num_tiles = (num_keys + kKeyTile - 1) / kKeyTile;
  parallel_for(0, num_tiles, 1, [=, this](std::int64_t begin, std::int64_t end) {
    for (std::int64_t tile = begin; tile < end; ++tile) pack_values(v, tile * kKeyTile, same);
  });
}

void PackedKeys::gather(Rows k, Rows v, const std::int32_t* columns, std::int64_t num_keys) {
  num_keys_ = num_keys;
  const auto listed = [columns](std::int64_t row) { return std::int64_t{columns[row]}; };
  for (std::int64_t first = 0; first < num_keys; first += Tile::kColumns) {
    pack_keys(k, first, listed);
  }
  for (std::int64_t first = 0; first < num_keys; first += kKeyTile) pack_values(v, first, listed);
}

TileAttention::TileAttention(std::int64_t head_dim)
    : head_dim_(head_dim),
      padded_dim_(round_up(head_dim, Tile::kColumns)),
      queries_(static_cast<std::size_t>(kQueryTile * head_dim)),
      logits_(static_cast<std::size_t>(kQueryTile * kKeyTile)),
      out_(static_cast<std::size_t>(kQueryTile * padded_dim_)),
      max_(static_cast<std::size_t>(kQueryTile)),
      sum_(static_cast<std::size_t>(kQueryTile)),
      correction_(static_cast<std::size_t>(kQueryTile)) {}

// Rows after the last query are computed, too, and ignored.
void TileAttention::start(Rows q, float scale) {
  for (std::int64_t row = 0; row < count_; ++row, q.data += q.stride) {
    float* target =
        queries_.data() + row / Tile::kRows * Tile::kRows * head_dim_ + row % Tile::kRows;
    for (std::int64_t d = 0; d < head_dim_; ++d) target[d * Tile::kRows] = q.data[d] * scale;
  }
  std::ranges::fill(out_, 0.0F);
  std::ranges::fill(max_, -std::numeric_limits<float>::max());
  std::ranges::fill(sum_, 0.0F);
}

// Computes the logits [count, num_keys] of the keys from `first` on.
void TileAttention::find_logits(const PackedKeys& keys, std::int64_t first, std::int64_t num_keys) {
  for (std::int64_t key = 0; key < num_keys; key += Tile::kColumns) {
    for (std::int64_t row = 0; row < count_; row += Tile::kRows) {
      Tile tile;
      tile.add_product<Tile::kRows>(queries_.data() + row * head_dim_, 1, head_dim_,
                                    keys.keys(first + key));
      float* target = logits_.data() + row * kKeyTile + key;
      tile.for_each([target](std::int64_t i, std::int64_t column, const Vec& sums) {
        store(sums, target + i * kKeyTile + column);
      });
    }
  }
}

void TileAttention::add_scores(const TileScores& scores, std::int64_t first,
                               std::int64_t num_keys) const {
  float* sums = scores.sums + first;
  for (std::int64_t row = scores.first_row; row < count_; row += scores.row_stride) {
    const float* logits = logits_.data() + row * kKeyTile;
    const float lse = scores.lse[row];
#pragma omp simd
    for (std::int64_t j = 0; j < num_keys; ++j) sums[j] += fast_exp(logits[j] - lse);
  }
}

// out = out·correction + weights [count, num_keys]·values.
void TileAttention::add_values(const PackedKeys& keys, std::int64_t first, std::int64_t num_keys) {
  for (std::int64_t feature = 0; feature < padded_dim_; feature += Tile::kColumns) {
    const float* values = keys.values(first, num_keys, feature);
    for (std::int64_t row = 0; row < count_; row += Tile::kRows) {
      Tile tile;
      tile.add_product(logits_.data() + row * kKeyTile, kKeyTile, num_keys, values);
      const float* correction = correction_.data() + row;
      float* target = out_.data() + row * padded_dim_ + feature;
      const std::int64_t width = padded_dim_;
      tile.for_each([=](std::int64_t i, std::int64_t column, const Vec& sums) {
        float* out = target + i * width + column;
        store(load(out) * correction[i] + sums, out);
      });
    }
  }
}

void TileAttention::run(const PackedKeys& keys, Rows q, std::int64_t count, float scale,
                        const float* bias, const TileScores& scores) {
  count_ = count;
  start(q, scale);
  for (std::int64_t first = 0; first < keys.num_keys(); first += kKeyTile) {
    const std::int64_t num_keys = std::min(kKeyTile, keys.num_keys() - first);
    find_logits(keys, first, num_keys);
    if (scores.sums != nullptr) add_scores(scores, first, num_keys);
    for (std::int64_t row = 0; row < count; ++row) {
      float* logits = logits_.data() + row * kKeyTile;
      if (bias != nullptr) {
        const float* added = bias + row * keys.num_keys() + first;
        for (std::int64_t j = 0; j < num_keys; ++j) logits[j] += added[j];
      }
      const float sum = softmax_row(logits, num_keys, max_[row], correction_[row]);
      sum_[row] = sum_[row] * correction_[row] + sum;
    }
    add_values(keys, first, num_keys);
  }
}

void TileAttention::write(std::int64_t row, float factor, float* y) const {
  const float whole = factor / sum_[row];
  const float* result = out_.data() + row * padded_dim_;
  for (std::int64_t d = 0; d < head_dim_; ++d) y[d] = result[d] * whole;
}

float TileAttention::lse(std::int64_t row) const { return max_[row] + std::log(sum_[row]); }

}  // namespace mochi::cpu
