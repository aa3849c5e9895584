// What the operations of backend.h are given beside plain tensors. What is said there of tensors,
// dtypes and devices holds for these, too.
#pragma once

#include <array>
#include <cstdint>

#include "tensor/tensor.h"

namespace mochi {

enum class Activation : std::uint8_t { kNone, kSilu, kGeluTanh };

struct LinearOptions {
  Activation activation = Activation::kNone;  // applied after the bias
  bool accumulate = false;                    // out += instead of out =
};

struct QkNormRope {
  TensorView q_weight, k_weight;  // [head_dim] RMS norm weights
  TensorView cos, sin;            // [tokens, heads, head_dim / 2], or both empty: no rotation
  float eps = 1e-5F;
};

struct GatedResidual {
  TensorView gate;             // [width]
  TensorView bias = {};        // [width] f32 added to what is added, or empty
  TensorView next_scale = {};  // [width] of a norm_modulate of the sum, with
  TensorView next_out = {};    // its result, [rows, width]; both empty: there is none
  float eps = 1e-6F;           // of both norms
};

// Heads of tokens, [heads, tokens, head_dim]: a tensor of that shape or, where a product left them,
// columns of a matrix [tokens, row], one head beside the other.
struct HeadsView {
  HeadsView() = default;
  HeadsView(const TensorView& heads) : tensor(heads), shape(heads.shape()) {}  // NOLINT: as it is
  HeadsView(const Tensor& heads) : HeadsView(heads.view()) {}                  // NOLINT: as it is
  // Columns [first_column, first_column + num_heads·head_dim) of `matrix`.
  HeadsView(const TensorView& matrix, std::int64_t num_heads, std::int64_t head_dim,
            std::int64_t first_column = 0)
      : tensor(matrix),
        shape{num_heads, matrix.dim(0), head_dim},
        first(first_column),
        are_columns(true) {}

  operator const TensorView&() const { return tensor; }  // NOLINT: to be written as a whole

  std::int64_t dim(int index) const { return shape[index]; }
  // Head h of token t is the head_dim elements from first + h·head_stride() + t·token_stride() on.
  std::int64_t head_stride() const { return are_columns ? dim(2) : dim(1) * dim(2); }
  std::int64_t token_stride() const { return are_columns ? tensor.dim(1) : dim(2); }

  TensorView tensor;
  Shape shape;  // [heads, tokens, head_dim]
  std::int64_t first = 0;
  bool are_columns = false;
};

struct AttentionInputs {
  HeadsView q;      // [heads, num_queries, head_dim]
  HeadsView k, v;   // [heads, num_keys, head_dim]
  TensorView bias;  // [heads, num_queries, num_keys] f32 added to the scaled logits, or empty
  float scale = 1.0F;
};

struct AttentionOutputs {
  TensorView out = {};  // [num_queries, heads·head_dim]
  TensorView lse = {};  // [heads, num_queries] f32 log-sum-exp of the scaled logits, or empty
};

// How much of the attention of a query group each key (column) gets.
struct ColumnSums {
  TensorView lse;                 // [heads, num_queries] f32: weights are exp(logit − lse)
  TensorView sums;                // out [heads, groups, num_keys] f32 Σ weights over the queries
  std::int64_t group_size = 0;    // consecutive queries; groups = ⌈num_queries / group_size⌉
  std::int64_t query_stride = 1;  // only every so many of a group's queries count
};

// The columns that each query group attends to.
struct ColumnLists {
  TensorView offsets;  // [heads·groups + 1] i32: where the list of (head, group) begins
  // [offsets.back() or more] i32, ascending in each list; attention wants one or more.
  TensorView columns;
  std::int64_t group_size = 0;
};

// What stands for the columns that are left out. With A and lse_A those of the chosen columns:
// out = cache + weight·A, or merged: out = (e^lse_A·A + e^r·cache) / (e^lse_A + e^r), where the
// log-sum-exp of what is left out, r = weight + follow·lse_A, moves with that of the chosen ones.
struct AttentionDelta {
  TensorView cache;        // [num_queries, heads·head_dim], F8_E4M3 too, or empty: no delta
  TensorView weight;       // [heads, num_queries] f32, or empty: 1
  bool is_merged = false;  // then there must be a weight
  float follow = 0;        // if merged: from 0 to below 1
  // [heads, num_queries] f32 of an F8_E4M3 cache, and of no other: what its values are times this.
  TensorView cache_scale = {};
};

// What is kept of a gated feed-forward layer, silu(a)·b times w2 with (a | b) = x times w1.
struct MlpCache {
  TensorView activations;       // [tokens, hidden] silu(a)·b
  TensorView out;               // [tokens, width]
  TensorView means;             // [blocks, 2·hidden] of (a | b) over the tokens of each block
  std::int64_t block_size = 0;  // consecutive tokens; blocks = ⌈tokens / block_size⌉
};

// Bit-packed plans: [heads, groups, ⌈num_keys / 32⌉] i32; bit j % 32 of word j / 32 is column j.
struct ColumnChoice {
  TensorView scores =
      {};                 // [heads, groups, num_keys] f32 ≥ 0, or empty: none is kept for its score
  TensorView fixed = {};  // [groups, words] i32: bits of columns that are kept anyway
  std::int64_t num_keys = 0;
  std::int64_t min_kept = 0, max_kept = 0;  // for their scores
  double mass = 1;    // between the two: the fewest that hold this part of the group's scores
  double random = 0;  // probability of each column to be kept, too
  // Of these draws: Philox(column / 4, group, head, step)[column % 4].
  std::uint64_t seed = 0;
  TensorView step = {};       // [1] i32, or empty: 0
  std::int64_t multiple = 1;  // lists grow to a multiple of this, or to all columns, by score
};

struct GroupNorm {
  TensorView weight, bias;  // [channels]
  int num_groups = 32;
  float eps = 1e-5F;
  Activation activation = Activation::kSilu;
};

struct Conv3d {
  TensorView weight;    // [Co, Ci, kt, kh, kw] matrix
  TensorView bias;      // [Co], or empty
  TensorView residual;  // of the output's shape and added to it, or empty; may be the output
  std::array<int, 3> stride{1, 1, 1};  // frames, rows, columns
};

struct Upsample {
  int temporal = 1, spatial = 1;  // factors; spatial holds for rows and columns
  int num_dropped_frames = 0;     // leading output frames left out
};

struct NormalFill {
  std::uint64_t seed = 0;
  float mean = 0.0F, deviation = 1.0F;
};

}  // namespace mochi
