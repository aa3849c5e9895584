// The checked front of the op table: attention, dense and sparse, and sparse feed-forward layers.
#include <fmt/format.h>

#include <limits>
#include <string>

#include "backend/backend.h"
#include "backend/contract.h"

namespace mochi {
namespace {

void check_heads(const Contract& c, const char* name, const HeadsView& heads) {
  c.activation(name, heads.tensor);
  c.rank(name, heads.tensor, heads.are_columns ? 2 : 3);
  if (!heads.are_columns) return;
  const std::int64_t width = heads.dim(0) * heads.dim(2);
  const std::int64_t row = heads.tensor.dim(1);
  c.require(0 <= heads.first && heads.first <= row && width <= row - heads.first,
            fmt::format("{} is {} columns from {} on of {}", name, width, heads.first,
                        heads.tensor.shape().to_string()));
}

void check_inputs(const Contract& c, const AttentionInputs& in) {
  check_heads(c, "q", in.q);
  check_heads(c, "k", in.k);
  check_heads(c, "v", in.v);
  c.shape("k", in.k.shape, {in.q.dim(0), in.k.dim(1), in.q.dim(2)});
  c.shape("v", in.v.shape, in.k.shape);
  c.require(in.k.dim(1) > 0, "there are no keys");
}

void check_lse(const Contract& c, const char* name, const TensorView& lse, const Shape& wanted) {
  c.f32(name, lse);
  c.shape(name, lse, wanted);
}

void check_outputs(const Contract& c, const AttentionInputs& in, const AttentionOutputs& to) {
  c.activation("out", to.out);
  c.shape("out", to.out, {in.q.dim(1), in.q.dim(0) * in.q.dim(2)});
  if (to.lse) check_lse(c, "lse", to.lse, {in.q.dim(0), in.q.dim(1)});
}

std::int64_t num_groups(const Contract& c, std::int64_t num_tokens, std::int64_t group_size) {
  c.require(group_size > 0, "groups of " + std::to_string(group_size) + " tokens");
  return (num_tokens + group_size - 1) / group_size;
}

void check_delta(const Contract& c, const AttentionDelta& delta, const Shape& out,
                 const Shape& lse) {
  if (!delta.cache) return;
  if (delta.cache.dtype() == DType::kF8E4M3) {
    c.dtype("cache", delta.cache, DType::kF8E4M3);
    check_lse(c, "cache_scale", delta.cache_scale, lse);
  } else {
    c.activation("cache", delta.cache);
    c.require(!delta.cache_scale, "a cache of activations has a scale");
  }
  c.shape("cache", delta.cache, out);
  c.require(!delta.is_merged || delta.weight, "a merged delta has no weight");
  c.require(delta.follow >= 0 && delta.follow < 1, "follow is not from 0 to below 1");
  if (delta.weight) check_lse(c, "weight", delta.weight, lse);
}

std::int64_t words_of(std::int64_t num_columns) {
  return (num_columns + kPlanWordBits - 1) / kPlanWordBits;
}

}  // namespace

void Backend::attention(const AttentionInputs& in, const AttentionOutputs& to) {
  const Contract c("attention", *this);
  check_inputs(c, in);
  check_outputs(c, in, to);
  if (in.bias) {
    c.f32("bias", in.bias);
    c.shape("bias", in.bias, {in.q.dim(0), in.q.dim(1), in.k.dim(1)});
  }
  do_attention(in, to);
}

void Backend::attention_with_column_sums(const AttentionInputs& in, const ColumnSums& scores,
                                         const AttentionOutputs& to) {
  const Contract c("attention_with_column_sums", *this);
  check_inputs(c, in);
  check_outputs(c, in, to);
  c.require(!in.bias, "bias must be empty");
  c.require(scores.query_stride > 0, "query_stride is not positive");
  check_lse(c, "scores.lse", scores.lse, {in.q.dim(0), in.q.dim(1)});
  c.require(scores.lse.bytes() != to.lse.bytes(), "scores.lse and lse are one tensor");
  c.f32("sums", scores.sums);
  c.shape("sums", scores.sums,
          {in.q.dim(0), num_groups(c, in.q.dim(1), scores.group_size), in.k.dim(1)});
  do_attention_with_column_sums(in, scores, to);
}

void Backend::column_sparse_attention(const AttentionInputs& in, const ColumnLists& columns,
                                      const AttentionDelta& delta, const AttentionOutputs& to) {
  const Contract c("column_sparse_attention", *this);
  check_inputs(c, in);
  c.require(!in.q.are_columns && !in.k.are_columns && !in.v.are_columns,
            "q, k and v must be separate tensors");
  check_outputs(c, in, to);
  c.require(!in.bias, "bias must be empty");
  check_delta(c, delta, to.out.shape(), {in.q.dim(0), in.q.dim(1)});
  c.dtype("offsets", columns.offsets, DType::kI32);
  c.dtype("columns", columns.columns, DType::kI32);
  c.rank("columns", columns.columns, 1);
  c.shape("offsets", columns.offsets,
          {in.q.dim(0) * num_groups(c, in.q.dim(1), columns.group_size) + 1});
  do_column_sparse_attention(in, columns, delta, to);
}

void Backend::find_delta(const AttentionOutputs& dense, const AttentionOutputs& sparse,
                         const AttentionDelta& delta) {
  const Contract c("find_delta", *this);
  c.activation("dense", dense.out);
  c.activation("sparse", sparse.out);
  c.shape("sparse", sparse.out, dense.out.shape());
  c.require(static_cast<bool>(delta.cache), "the cache is missing");
  const TensorView& of_heads = delta.weight ? delta.weight : delta.cache_scale;
  if (of_heads) {
    const char* name = delta.weight ? "weight" : "cache_scale";
    c.rank(name, of_heads, 2);
    c.require(of_heads.dim(1) == dense.out.dim(0) && of_heads.dim(0) > 0 &&
                  dense.out.dim(1) % of_heads.dim(0) == 0,
              std::string(name) + " is " + of_heads.shape().to_string() + ", dense is " +
                  dense.out.shape().to_string());
  }
  if (delta.weight) {
    check_lse(c, "dense lse", dense.lse, delta.weight.shape());
    check_lse(c, "sparse lse", sparse.lse, delta.weight.shape());
  }
  check_delta(c, delta, dense.out.shape(), of_heads.shape());
  do_find_delta(dense, sparse, delta);
}

void Backend::select_columns(const ColumnChoice& choice, const TensorView& plan,
                             const TensorView& offsets) {
  const Contract c("select_columns", *this);
  c.rank("plan", plan, 3);
  c.dtype("plan", plan, DType::kI32);
  c.dtype("offsets", offsets, DType::kI32);
  c.dtype("fixed", choice.fixed, DType::kI32);
  const std::int64_t words = words_of(choice.num_keys);
  c.shape("plan", plan, {plan.dim(0), plan.dim(1), words});
  c.shape("offsets", offsets, {plan.dim(0) * plan.dim(1) + 1});
  c.shape("fixed", choice.fixed, {plan.dim(1), words});
  if (choice.scores) {
    c.f32("scores", choice.scores);
    c.shape("scores", choice.scores, {plan.dim(0), plan.dim(1), choice.num_keys});
  }
  c.require(0 <= choice.min_kept && choice.min_kept <= choice.max_kept &&
                choice.max_kept <= choice.num_keys,
            "kept columns are not 0 ≤ min ≤ max ≤ num_keys");
  c.require(choice.multiple > 0, "multiple is not positive");
  if (choice.step) {
    c.dtype("step", choice.step, DType::kI32);
    c.shape("step", choice.step, {1});
  }
  const std::int64_t most = plan.dim(0) * plan.dim(1) * choice.num_keys;
  c.require(most <= std::numeric_limits<std::int32_t>::max(),
            fmt::format("{} lists of up to {} columns are over 2^31", plan.dim(0) * plan.dim(1),
                        choice.num_keys));
  do_select_columns(choice, plan, offsets);
}

void Backend::expand_columns(const TensorView& plan, const ColumnLists& columns) {
  const Contract c("expand_columns", *this);
  c.rank("plan", plan, 3);
  c.dtype("plan", plan, DType::kI32);
  c.dtype("offsets", columns.offsets, DType::kI32);
  c.dtype("columns", columns.columns, DType::kI32);
  c.rank("columns", columns.columns, 1);
  c.shape("offsets", columns.offsets, {plan.dim(0) * plan.dim(1) + 1});
  do_expand_columns(plan, columns);
}

void Backend::find_movement(const TensorView& means, const TensorView& former,
                            const TensorView& scores) {
  const Contract c("find_movement", *this);
  c.rank("means", means, 2);
  c.activation("means", means);
  c.activation("former", former);
  c.shape("former", former, means.shape());
  c.rank("scores", scores, 3);
  c.f32("scores", scores);
  c.shape("scores", scores, {1, means.dim(0), scores.dim(2)});
  c.shape("means", means, {means.dim(0), 2 * scores.dim(2)});
  do_find_movement(means, former, scores);
}

void Backend::column_sparse_mlp(const TensorView& x, const MatrixView& w1,
                                const TensorView& w2_rows, const ColumnLists& columns,
                                const MlpCache& cache) {
  const Contract c("column_sparse_mlp", *this);
  c.rank("x", x, 2);
  c.activation("x", x);
  c.rank("w2_rows", w2_rows, 2);
  c.matrix("w2_rows", w2_rows);
  c.matrix("w1", w1);
  const std::int64_t hidden = w2_rows.dim(0);
  c.shape("w2_rows", w2_rows, {hidden, x.dim(1)});
  c.shape("w1", w1.shape(), {2 * hidden, x.dim(1)});
  for (const TensorView& kept : {cache.activations, cache.out, cache.means}) {
    c.activation("cache", kept);
  }
  const std::int64_t num_blocks = num_groups(c, x.dim(0), cache.block_size);
  c.shape("activations", cache.activations, {x.dim(0), hidden});
  c.shape("out", cache.out, x.shape());
  c.shape("means", cache.means, {num_blocks, 2 * hidden});
  c.require(columns.group_size == cache.block_size, "the lists have another block size");
  c.dtype("offsets", columns.offsets, DType::kI32);
  c.dtype("columns", columns.columns, DType::kI32);
  c.rank("columns", columns.columns, 1);
  c.shape("offsets", columns.offsets, {num_blocks + 1});
  do_column_sparse_mlp(x, dense(w1), w2_rows, columns, cache);
}

void Backend::gather_rows(const TensorView& x, const TensorView& indices, const TensorView& out) {
  const Contract c("gather_rows", *this);
  c.rank("x", x, 2);
  c.activation("x", x);
  c.activation("out", out);
  c.rank("indices", indices, 1);
  c.dtype("indices", indices, DType::kI32);
  c.shape("out", out, {indices.dim(0), x.dim(1)});
  do_gather_rows(x, indices, out);
}

}  // namespace mochi
