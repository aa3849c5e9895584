// Attention in tiles with a running softmax (as in FlashAttention): the logits of a tile of queries
// against a tile of keys are all that is ever in memory. Keys and values are first packed into the
// order in which products read them. Included by .cpp files of this folder alone.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/cpu/register_tile.h"
#include "backend/op_parameters.h"

namespace mochi::cpu {

using AttentionTile = RegisterTile<2, 6>;

// A tile's queries, logits, keys and values fit into an L2 cache of 512 KiB at head_dim 128.
constexpr std::int64_t kQueryTile = 96;
constexpr std::int64_t kKeyTile = 128;
static_assert(kQueryTile % AttentionTile::kRows == 0 && kKeyTile % AttentionTile::kColumns == 0);

// Tokens of one head: rows of head_dim elements, `stride` apart.
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

// Keys and values of one head, or some of them; what rounds them up to whole tiles is zero.
class PackedKeys {
 public:
  PackedKeys(std::int64_t max_keys, std::int64_t head_dim);

  // All num_keys of them, by all threads.
  void pack(Rows k, Rows v, std::int64_t num_keys);
  // Rows `columns` [num_keys] of them, by the calling thread.
  void gather(Rows k, Rows v, const std::int32_t* columns, std::int64_t num_keys);

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
  template <typename RowOf>
  void pack_keys(Rows k, std::int64_t first, RowOf row_of);
  template <typename RowOf>
  void pack_values(Rows v, std::int64_t first, RowOf row_of);

  std::int64_t num_keys_ = 0, head_dim_, padded_dim_;
  std::vector<float> keys_, values_;
};

// Sums of a column's softmax weights over some of a tile's queries.
struct TileScores {
  const float* lse = nullptr;   // [queries] log-sum-exp that the weights are taken with
  float* sums = nullptr;        // [num_keys] += Σ exp(logit − lse)
  std::int64_t first_row = 0;   // the first query that counts
  std::int64_t row_stride = 1;  // and every so many after it
};

// One tile of queries against all keys.
class TileAttention {
 public:
  explicit TileAttention(std::int64_t head_dim);

  // The first `count` ≤ kQueryTile of q; bias null or [count, num_keys].
  void run(const PackedKeys& keys, Rows q, std::int64_t count, float scale, const float* bias,
           const TileScores& scores = {});

  // Of the last run: y [head_dim] = the row's output times `factor`.
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
  std::vector<float> correction_;  // of `out_` so far
};

}  // namespace mochi::cpu
