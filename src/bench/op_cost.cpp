#include "bench/op_cost.h"

#include "bench/flops.h"

namespace mochi::bench {
namespace {

double size_of(const TensorView& tensor) {
  return tensor ? static_cast<double>(tensor.size_bytes()) : 0.0;
}

double product_flops(const MatrixView& x, const MatrixView& weight) {
  return gemm_flops(x.dim(0), weight.dim(0), weight.dim(1));
}

double attention_flops(const AttentionInputs& in) {
  return 2.0 * gemm_flops(in.num_queries(), in.num_keys(), in.num_heads() * in.head_dim());
}

}  // namespace

Cost cost_of(const ops::Linear& op) {
  return {.flops = product_flops(op.x, op.weight), .bytes = traffic(op)};
}

Cost cost_of(const ops::GatedLinear& op) {
  return {.flops = product_flops(op.x, op.weight), .bytes = traffic(op)};
}

Cost cost_of(const ops::QkvLinear& op) {
  const double row_bytes =
      static_cast<double>(op.weight.dim(0)) * static_cast<double>(dtype_bytes(op.q.dtype()));
  return {.flops = product_flops(op.x, op.weight),
          .bytes = static_cast<double>(op.x.size_bytes()) +
                   static_cast<double>(op.weight.size_bytes()) + size_of(op.norm.cos) +
                   size_of(op.norm.sin) + static_cast<double>(op.x.dim(0)) * row_bytes};
}

Cost cost_of(const ops::QkNormRope& op) {
  return {.bytes = 2 * size_of(op.qkv) + size_of(op.norm.cos) + size_of(op.norm.sin)};
}

Cost cost_of(const ops::Attention& op) {
  return {.flops = attention_flops(op.in), .bytes = traffic(op)};
}

Cost cost_of(const ops::AttentionWithColumnSums& op) {
  return {.flops = attention_flops(op.in), .bytes = traffic(op)};
}

Cost cost_of(const ops::ColumnSparseAttention& op) {
  Cost cost{.bytes = traffic(op)};
  const auto num_lists = static_cast<double>(op.columns.offsets.num_elements() - 1);
  const auto queries = static_cast<double>(op.in.num_heads() * op.in.num_queries());
  if (num_lists > 0) {
    const double kept = static_cast<double>(op.columns.columns.num_elements()) / num_lists;
    cost.flops = 4.0 * static_cast<double>(op.in.head_dim()) * queries * kept;
  }
  return cost;
}

Cost cost_of(const ops::ColumnSparseMlp& /*op*/) { return {}; }

Cost cost_of(const ops::Conv3d& op) {
  const std::int64_t num_pixels = op.out.dim(0) * op.out.dim(1) * op.out.dim(2);
  const std::int64_t out_channels = op.weight.dim(0);
  return {.flops = gemm_flops(num_pixels, out_channels, op.weight.num_elements() / out_channels),
          .bytes = traffic(op)};
}

Cost cost_of(const ops::Embedding& op) { return {.bytes = 2 * size_of(op.out)}; }

Cost cost_of(const ops::GatherRows& op) {
  return {.bytes = 2 * size_of(op.out) + size_of(op.indices)};
}

}  // namespace mochi::bench
