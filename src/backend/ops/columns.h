// The choice of columns, and sparse feed-forward layers.
#pragma once

#include <tuple>

#include "backend/ops/attention.h"
#include "backend/ops/contract.h"

namespace mochi {

// Plans are bit-packed: [heads, groups, ⌈num_keys / 32⌉] i32, where bit j % 32 of word j / 32
// stands for column j.
inline constexpr std::int64_t kPlanWordBits = 32;

namespace ops {

// The plan of every head and group, and the offsets of its lists. All lists together must hold
// fewer than 2^31 columns.
struct SelectColumns {
  static constexpr const char* kName = "select_columns";
  OptionalInF32 scores = {};  // [heads, groups, num_keys] ≥ 0; empty: none is kept for its score
  InI32 fixed;                // [groups, words]: bits of columns that are always kept
  std::int64_t num_keys;
  std::int64_t min_kept = 0, max_kept = 0;  // limits of the number kept for their scores
  // Within the limits, the fewest columns that hold this share of the group's scores are kept.
  double mass = 1;
  double random = 0;  // probability of each further column to be kept
  // Seed of the random columns: column j uses Philox(j / 4, group, head, step)[j % 4].
  std::uint64_t seed = 0;
  OptionalInI32 step = {};    // [1]; empty: 0
  std::int64_t multiple = 1;  // lists grow, by score, to a multiple of this or to all columns
  OutI32 plan;                // [heads, groups, words]
  OutI32 offsets;             // [heads·groups + 1]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("scores", op.scores);
    f("fixed", op.fixed);
    f("num_keys", op.num_keys);
    f("min_kept", op.min_kept);
    f("max_kept", op.max_kept);
    f("mass", op.mass);
    f("random", op.random);
    f("seed", op.seed);
    f("step", op.step);
    f("multiple", op.multiple);
    f("plan", op.plan);
    f("offsets", op.offsets);
  }
};

// Writes a plan as lists: their offsets are given, their columns are filled.
struct ExpandColumns {
  static constexpr const char* kName = "expand_columns";
  InI32 plan;  // [heads, groups, words]
  ColumnLists lists;

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("plan", op.plan);
    ColumnLists::visit(op.lists, Access::kWrite, f);
  }
};

// scores = |Δa| + |Δb| of the hidden columns, between two means of (a | b) over blocks of tokens.
struct FindMovement {
  static constexpr const char* kName = "find_movement";
  In means, former;  // [blocks, 2·hidden]
  OutF32 scores;     // [1, blocks, hidden]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("means", op.means);
    f("former", op.former);
    f("scores", op.scores);
  }
};

// Updates the cached state of a gated feed-forward layer, out = (silu(a)·b)·w2 with (a | b) = x·w1,
// in the listed hidden columns: computes their activations and means again and adds the change to
// the output. There is one list per block of tokens, possibly empty. Matmuls take f32 inputs:
// unlike a Linear, this operation rounds no input to BF16.
struct ColumnSparseMlp {
  static constexpr const char* kName = "column_sparse_mlp";
  In x;                   // [tokens, width]
  InMatrix w1;            // [2·hidden, width]
  InDenseMatrix w2_rows;  // [hidden, width], the transpose of w2
  ColumnLists columns;    // group_size is the number of consecutive tokens of a block
  InOut activations;      // [tokens, hidden]: silu(a)·b
  InOut out;              // [tokens, width]
  InOut means;            // [blocks, 2·hidden]: means of (a | b) over the tokens of each block

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("w1", op.w1);
    f("w2_rows", op.w2_rows);
    ColumnLists::visit(op.columns, Access::kRead, f);
    f("activations", op.activations);
    f("out", op.out);
    f("means", op.means);
  }
};

using ColumnOps = std::tuple<SelectColumns, ExpandColumns, FindMovement, ColumnSparseMlp>;

}  // namespace ops
}  // namespace mochi
