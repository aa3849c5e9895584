// Parameter structs of the operations in backend.h. Its rules about tensors, dtypes and devices
// hold for these structs, too.
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
  TensorView cos, sin;            // [tokens, heads, head_dim / 2], or both empty for no rotation
  float eps = 1e-5F;
};

struct GatedResidual {
  TensorView gate;             // [width]
  TensorView bias = {};        // [width] f32 added to the residual r, or empty
  TensorView next_scale = {};  // [width] scale of a norm_modulate of the sum
  TensorView next_out = {};    // [rows, width] its result; empty together with next_scale
  float eps = 1e-6F;           // used by both norms
};

// Heads of tokens, [heads, tokens, head_dim]. The storage is a tensor of that shape or a range of
// columns of a matrix [tokens, row], head next to head, as a projection wrote them.
struct HeadsView {
  HeadsView() = default;
  HeadsView(const TensorView& heads) : tensor(heads), shape(heads.shape()) {}  // NOLINT: implicit
  HeadsView(const Tensor& heads) : HeadsView(heads.view()) {}                  // NOLINT: implicit
  // Selects columns [first_column, first_column + num_heads·head_dim) of `matrix`.
  HeadsView(const TensorView& matrix, std::int64_t num_heads, std::int64_t head_dim,
            std::int64_t first_column = 0)
      : tensor(matrix),
        shape{num_heads, matrix.dim(0), head_dim},
        first(first_column),
        are_columns(true) {}

  operator const TensorView&() const { return tensor; }  // NOLINT: implicit

  std::int64_t dim(int index) const { return shape[index]; }
  // The head_dim elements of head h and token t begin at first + h·head_stride() +
  // t·token_stride().
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

// Sums of the attention weights that each key (column) gets from a query group.
struct ColumnSums {
  TensorView lse;               // [heads, num_queries] f32; weights are exp(logit − lse)
  TensorView sums;              // output [heads, groups, num_keys] f32: Σ weights over the queries
  std::int64_t group_size = 0;  // consecutive queries; groups = ⌈num_queries / group_size⌉
  std::int64_t query_stride = 1;  // only every query_stride-th query of a group is counted
};

// The columns that each query group attends to.
struct ColumnLists {
  TensorView offsets;  // [heads·groups + 1] i32: start of the list of (head, group)
  // [offsets.back() or more] i32, ascending within each list; attention needs at least one per
  // list.
  TensorView columns;
  std::int64_t group_size = 0;
};

// The correction for the columns that are left out. With A and lse_A of the chosen columns: out =
// cache + weight·A; if merged, out = (e^lse_A·A + e^r·cache) / (e^lse_A + e^r), where r = weight +
// follow·lse_A is the log-sum-exp of the columns left out, which moves with lse_A.
struct AttentionDelta {
  TensorView cache;        // [num_queries, heads·head_dim], may be F8_E4M3; empty: no delta
  TensorView weight;       // [heads, num_queries] f32; empty: 1
  bool is_merged = false;  // needs a weight
  float follow = 0;        // in [0, 1); only used if merged
  // [heads, num_queries] f32: factors of the cache's values. Present for an F8_E4M3 cache only.
  TensorView cache_scale = {};
};

// Cached state of a gated feed-forward layer, (silu(a)·b)·w2 with (a | b) = x·w1.
struct MlpCache {
  TensorView activations;  // [tokens, hidden] silu(a)·b
  TensorView out;          // [tokens, width]
  TensorView means;        // [blocks, 2·hidden]: means of (a | b) over the tokens of each block
  std::int64_t block_size = 0;  // number of consecutive tokens; blocks = ⌈tokens / block_size⌉
};

// Plans are bit-packed: [heads, groups, ⌈num_keys / 32⌉] i32, where bit j % 32 of word j / 32
// stands for column j.
inline constexpr std::int64_t kPlanWordBits = 32;

// How a plan is chosen.
struct ColumnChoice {
  // [heads, groups, num_keys] f32 ≥ 0; empty: no column is kept for its score.
  TensorView scores = {};
  TensorView fixed = {};  // [groups, words] i32: bits of columns that are always kept
  std::int64_t num_keys = 0;
  std::int64_t min_kept = 0, max_kept = 0;  // limits of the number kept for their scores
  // Within the limits, the fewest columns that hold this share of the group's scores are kept.
  double mass = 1;
  double random = 0;  // probability of each further column to be kept
  // Seed of the random columns: column j uses Philox(j / 4, group, head, step)[j % 4].
  std::uint64_t seed = 0;
  TensorView step = {};       // [1] i32 on the device; empty: 0
  std::int64_t multiple = 1;  // lists grow, by score, to a multiple of this or to all columns
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
  TensorView residual;  // added to the output and of its shape, or empty; may be the output itself
  std::array<int, 3> stride{1, 1, 1};  // frames, rows, columns
};

struct Upsample {
  int temporal = 1, spatial = 1;  // factors; `spatial` applies to rows and columns
  int num_dropped_frames = 0;     // number of leading output frames to leave out
};

struct NormalFill {
  std::uint64_t seed = 0;
  float mean = 0.0F, deviation = 1.0F;
};

}  // namespace mochi
