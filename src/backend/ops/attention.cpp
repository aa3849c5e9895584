#include "backend/ops/attention.h"

#include <fmt/format.h>

namespace mochi::ops {
namespace {

void check_heads(const Contract& c, const char* name, const HeadsView& heads) {
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
  c.shape("k", in.k.shape, {in.num_heads(), in.num_keys(), in.head_dim()});
  c.shape("v", in.v.shape, in.k.shape);
  c.require(in.num_keys() > 0, "there are no keys");
}

void check_outputs(const Contract& c, const AttentionInputs& in, const AttentionOutputs& to) {
  c.shape("out", to.out, {in.num_queries(), in.num_heads() * in.head_dim()});
  c.optional_shape("lse", to.lse, {in.num_heads(), in.num_queries()});
}

std::int64_t num_groups(const Contract& c, std::int64_t num_tokens, std::int64_t group_size) {
  c.require(group_size > 0, "groups of " + std::to_string(group_size) + " tokens");
  return (num_tokens + group_size - 1) / group_size;
}

void check_delta(const Contract& c, const AttentionDelta& delta, const Shape& out,
                 const Shape& lse) {
  if (!delta.cache) return;
  if (delta.cache.dtype() == DType::kF8E4M3) {
    c.require(static_cast<bool>(delta.cache_scale), "cache_scale is missing");
    c.shape("cache_scale", delta.cache_scale, lse);
  } else {
    c.require(!delta.cache_scale, "a cache of activations has a scale");
  }
  c.shape("cache", delta.cache, out);
  c.require(!delta.is_merged || delta.weight, "a merged delta has no weight");
  c.require(delta.follow >= 0 && delta.follow < 1, "follow is not from 0 to below 1");
  c.optional_shape("weight", delta.weight, lse);
}

}  // namespace

void Attention::check(const Contract& c) const {
  check_inputs(c, in);
  check_outputs(c, in, to);
  c.optional_shape("bias", in.bias, {in.num_heads(), in.num_queries(), in.num_keys()});
}

void AttentionWithColumnSums::check(const Contract& c) const {
  check_inputs(c, in);
  check_outputs(c, in, to);
  c.require(!in.bias, "bias must be empty");
  c.require(query_stride > 0, "query_stride is not positive");
  c.shape("scores_lse", scores_lse, {in.num_heads(), in.num_queries()});
  c.require(scores_lse.bytes() != to.lse.bytes(), "scores_lse and lse are one tensor");
  c.shape("sums", sums,
          {in.num_heads(), num_groups(c, in.num_queries(), group_size), in.num_keys()});
}

void ColumnSparseAttention::check(const Contract& c) const {
  check_inputs(c, in);
  c.require(!in.q.are_columns && !in.k.are_columns && !in.v.are_columns,
            "q, k and v must be separate tensors");
  check_outputs(c, in, to);
  c.require(!in.bias, "bias must be empty");
  check_delta(c, delta, to.out.shape(), {in.num_heads(), in.num_queries()});
  c.rank("columns", columns.columns, 1);
  c.shape("offsets", columns.offsets,
          {in.num_heads() * num_groups(c, in.num_queries(), columns.group_size) + 1});
}

void FindDelta::check(const Contract& c) const {
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
    c.require(dense.lse && sparse.lse, "a delta with a weight needs the lse of both");
    c.shape("dense lse", dense.lse, delta.weight.shape());
    c.shape("sparse lse", sparse.lse, delta.weight.shape());
  }
  check_delta(c, delta, dense.out.shape(), of_heads.shape());
}

}  // namespace mochi::ops
