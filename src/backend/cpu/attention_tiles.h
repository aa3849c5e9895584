// Attention in tiles with a running softmax (as in FlashAttention): only the logits of one tile of
// queries against one tile of keys are ever in memory. Keys and values are first packed in the
// order in which matmuls read them. Only .cpp files of this folder include this header.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/cpu/register_tile.h"
#include "backend/ops/ops.h"

namespace mochi::cpu {

using AttentionTile = RegisterTile<2, 6>;

// A tile's queries, logits, keys and values fit into an L2 cache of 512 KiB at head_dim 128.
constexpr std::int64_t kQueryTile = 96;
constexpr std::int64_t kKeyTile = 128;
static_assert(kQueryTile % AttentionTile::kRows == 0 && kKeyTile % AttentionTile::kColumns == 0);

// Tokens of one head, as rows of head_dim elements that are `stride` apart.
struct Rows {
  const float* data;
  std::int64_t stride;
};
inline Rows rows_of(const HeadsView& heads, std::int64_t head, std::int64_t first_token = 0) {
  const std::int64_t stride = heads.token_stride();
  return {
      heads.tensor.f32().data() + heads.first + head * heads.head_stride() + first_token * stride,
      stride};
}

// Some or all keys and values of one head, padded with zeros to whole tiles.
class PackedKeys {
 public:
  PackedKeys(std::int64_t max_keys, std::int64_t head_dim);

  // Packs all num_keys rows, on all threads.
  void pack(Rows k, Rows v, std::int64_t num_keys);
  // Packs the rows `columns` [num_keys], on the calling thread.
  void gather(Rows k, Rows v, const std::int32_t* columns, std::int64_t num_keys);

  std::int64_t num_keys() const { return num_keys_; }
  std::int64_t head_dim() const { return head_dim_; }
  std::int64_t padded_dim() const { return padded_dim_; }
  // Returns keys [first, first + kColumns) as [head_dim, kColumns]; `first` is a multiple of
  // kColumns.
  const float* keys(std::int64_t first) const { return keys_.data() + first * head_dim_; }
  // Returns values [first_key, first_key + keys) of features [feature, feature + kColumns) as
  // [keys, kColumns]. first_key and keys describe a whole key tile; `feature` is a multiple of
  // kColumns.
  const float* values(std::int64_t first_key, std::int64_t keys, std::int64_t feature) const {
    return values_.data() + first_key * padded_dim_ + feature * keys;
  }

 private:
  template <typename RowOf>
  void pack_keys(Rows k, std::int64_t first, RowOf row_of);
  template <typename RowOf>
  void pack_values(Rows v, std::int64_t first, RowOf row_of);

  std::int64_t num_keys_ = 0, head_dim_, padded_dim_;
  std::vector<float> keys_, values_;
};

// Sums of each column's softmax weights over some of a tile's queries.
struct TileScores {
  const float* lse = nullptr;   // [queries] log-sum-exp of the weights
  float* sums = nullptr;        // [num_keys], increased by Σ exp(logit − lse)
  std::int64_t first_row = 0;   // the first query that is counted
  std::int64_t row_stride = 1;  // distance to the next one
};

// Attention of one tile of queries to all keys.
class TileAttention {
 public:
  explicit TileAttention(std::int64_t head_dim);

  // Computes the first `count` ≤ kQueryTile queries of q; bias is null or [count, num_keys].
  void run(const PackedKeys& keys, Rows q, std::int64_t count, float scale, const float* bias,
           const TileScores& scores = {});

  // Writes a row's output of the last run, times `factor`, to y [head_dim].
  void write(std::int64_t row, float factor, float* y) const;
  float lse(std::int64_t row) const;

 private:
  void start(Rows q, float scale);
  void find_logits(const PackedKeys& keys, std::int64_t first, std::int64_t num_keys);
  void add_scores(const TileScores& scores, std::int64_t first, std::int64_t num_keys) const;
  void add_values(const PackedKeys& keys, std::int64_t first, std::int64_t num_keys);

  std::int64_t count_ = 0, head_dim_, padded_dim_;
  std::vector<float> queries_;  // [queries / kRows, head_dim, kRows], scaled
  std::vector<float> logits_;   // [queries, kKeyTile]
  std::vector<float> out_;      // [queries, padded_dim], not yet divided by `sum_`
  std::vector<float> max_, sum_;
  std::vector<float> correction_;  // factors of `out_`'s previous values
};

}  // namespace mochi::cpu
