// Attention, dense and column-sparse, and the delta between both.
#pragma once

#include <tuple>

#include "backend/ops/contract.h"
#include "backend/ops/heads_view.h"

namespace mochi {

// ---- groups of operands, which have another role in each operation ----

struct AttentionInputs {
  HeadsView q;           // [heads, num_queries, head_dim]
  HeadsView k, v;        // [heads, num_keys, head_dim]; num_keys ≥ 1
  TensorView bias = {};  // [heads, num_queries, num_keys] f32 added to the scaled logits, or empty
  float scale = 1.0F;

  std::int64_t num_heads() const { return q.dim(0); }
  std::int64_t num_queries() const { return q.dim(1); }
  std::int64_t num_keys() const { return k.dim(1); }
  std::int64_t head_dim() const { return q.dim(2); }
  static void visit(auto& in, const auto& f) {
    f("q", In::kRole, in.q);
    f("k", In::kRole, in.k);
    f("v", In::kRole, in.v);
    f("bias", OptionalInF32::kRole, in.bias);
    f("scale", in.scale);
  }
};

struct AttentionOutputs {
  TensorView out = {};  // [num_queries, heads·head_dim]
  TensorView lse = {};  // [heads, num_queries] f32 log-sum-exp of the scaled logits, or empty

  static void visit(auto& to, Access access, const auto& f) {
    f("out", Role{access, Elements::kActivation}, to.out);
    f("lse", optional({access, Elements::kF32}), to.lse);
  }
};

// The columns that each query group attends to.
struct ColumnLists {
  TensorView offsets;  // [heads·groups + 1] i32: start of the list of (head, group)
  // [offsets.back() or more] i32, ascending within each list; attention needs at least one per
  // list.
  TensorView columns;
  std::int64_t group_size = 0;

  static void visit(auto& lists, Access access, const auto& f) {
    f("offsets", InI32::kRole, lists.offsets);
    f("columns", Role{access, Elements::kI32}, lists.columns);
    f("group_size", lists.group_size);
  }
};

// The correction for the columns that are left out. With A and lse_A of the chosen columns: out =
// cache + weight·A; if merged, out = (e^lse_A·A + e^r·cache) / (e^lse_A + e^r), where r = weight +
// follow·lse_A is the log-sum-exp of the columns left out, which moves with lse_A.
struct AttentionDelta {
  TensorView cache = {};   // [num_queries, heads·head_dim], may be F8_E4M3; empty: no delta
  TensorView weight = {};  // [heads, num_queries] f32; empty: 1
  bool is_merged = false;  // needs a weight
  float follow = 0;        // in [0, 1); only used if merged
  // [heads, num_queries] f32: factors of the cache's values. Present for an F8_E4M3 cache only.
  TensorView cache_scale = {};

  static void visit(auto& delta, Access access, const auto& f) {
    f("cache", optional({access, Elements::kCache}), delta.cache);
    f("weight", optional({access, Elements::kF32}), delta.weight);
    f("is_merged", delta.is_merged);
    f("follow", delta.follow);
    f("cache_scale", optional({access, Elements::kF32}), delta.cache_scale);
  }
};

namespace ops {

// out = softmax(q·kᵀ·scale + bias)·v. Each of q, k and v may be columns of a matrix.
struct Attention {
  static constexpr const char* kName = "attention";
  AttentionInputs in;
  AttentionOutputs to;

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    AttentionInputs::visit(op.in, f);
    AttentionOutputs::visit(op.to, Access::kWrite, f);
  }
};

// Attention, and the sums of the weights that each key (column) gets from a query group.
struct AttentionWithColumnSums {
  static constexpr const char* kName = "attention_with_column_sums";
  AttentionInputs in;       // without bias
  InF32 scores_lse;         // [heads, num_queries]; weights are exp(logit − scores_lse)
  OutF32 sums;              // [heads, ⌈num_queries / group_size⌉, num_keys]: Σ over the queries
  std::int64_t group_size;  // number of consecutive queries
  std::int64_t query_stride = 1;  // only every query_stride-th query of a group is counted
  AttentionOutputs to;

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    AttentionInputs::visit(op.in, f);
    f("scores_lse", op.scores_lse);
    f("sums", op.sums);
    f("group_size", op.group_size);
    f("query_stride", op.query_stride);
    AttentionOutputs::visit(op.to, Access::kWrite, f);
  }
};

// Attention of every query group over its own columns, plus the delta. The lse is that of these
// columns alone.
struct ColumnSparseAttention {
  static constexpr const char* kName = "column_sparse_attention";
  AttentionInputs in;  // separate tensors, without bias
  ColumnLists columns;
  AttentionDelta delta = {};
  AttentionOutputs to;

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    AttentionInputs::visit(op.in, f);
    ColumnLists::visit(op.columns, Access::kRead, f);
    AttentionDelta::visit(op.delta, Access::kRead, f);
    AttentionOutputs::visit(op.to, Access::kWrite, f);
  }
};

// Fills the delta's cache, its scale and its weight so that applying the delta to `sparse` gives
// `dense`; both need lse if the delta has a weight. In an F8_E4M3 cache the largest value of each
// query and head becomes ±448 times the scale; if all values are zero, so is the scale.
struct FindDelta {
  static constexpr const char* kName = "find_delta";
  AttentionOutputs dense, sparse;
  AttentionDelta delta;

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("dense", In::kRole, op.dense.out);
    f("dense lse", OptionalInF32::kRole, op.dense.lse);
    f("sparse", In::kRole, op.sparse.out);
    f("sparse lse", OptionalInF32::kRole, op.sparse.lse);
    AttentionDelta::visit(op.delta, Access::kWrite, f);
  }
};

using AttentionOps =
    std::tuple<Attention, AttentionWithColumnSums, ColumnSparseAttention, FindDelta>;

}  // namespace ops
}  // namespace mochi
