#include "bench/op_cost.h"

#include "bench/flops.h"

namespace mochi::bench {
namespace {

double bytes_of(const TensorView& tensor) {
  return tensor ? static_cast<double>(tensor.size_bytes()) : 0.0;
}

// Counts only the heads' columns if the tensor is a matrix.
double bytes_of(const HeadsView& heads) {
  if (!heads.tensor) return 0.0;
  return static_cast<double>(heads.shape.num_elements()) *
         static_cast<double>(dtype_bytes(heads.tensor.dtype()));
}

}  // namespace

Cost traffic(std::initializer_list<TensorView> tensors) {
  Cost cost;
  for (const TensorView& tensor : tensors) cost.bytes += bytes_of(tensor);
  return cost;
}

Cost linear_cost(const TensorView& x, const TensorView& weight, const TensorView& bias,
                 const TensorView& out, const LinearOptions& options) {
  Cost cost = traffic({x, weight, bias, out, options.accumulate ? out : TensorView()});
  cost.flops = gemm_flops(x.dim(0), weight.dim(0), weight.dim(1));
  return cost;
}

Cost fused_linear_cost(const TensorView& x, const TensorView& weight,
                       std::initializer_list<TensorView> others) {
  Cost cost = traffic({x, weight});
  cost += traffic(others);
  cost.flops = gemm_flops(x.dim(0), weight.dim(0), weight.dim(1));
  return cost;
}

Cost attention_cost(const AttentionInputs& in, const AttentionOutputs& to) {
  Cost cost = traffic({in.bias, to.out, to.lse});
  for (const HeadsView& heads : {in.q, in.k, in.v}) cost.bytes += bytes_of(heads);
  const std::int64_t width = in.q.dim(0) * in.q.dim(2);
  cost.flops = 2.0 * gemm_flops(in.q.dim(1), in.k.dim(1), width);
  return cost;
}

Cost column_sums_cost(const AttentionInputs& in, const ColumnSums& scores,
                      const AttentionOutputs& to) {
  Cost cost = attention_cost(in, to);
  cost += traffic({scores.lse, scores.sums});
  return cost;
}

Cost column_attention_cost(const AttentionInputs& in, const ColumnLists& columns,
                           const AttentionDelta& delta, const AttentionOutputs& to) {
  Cost cost = traffic({in.q, in.k, in.v, columns.offsets, columns.columns, delta.cache,
                       delta.cache_scale, delta.weight, to.out, to.lse});
  const auto num_lists = static_cast<double>(columns.offsets.num_elements() - 1);
  const auto queries = static_cast<double>(in.q.dim(0) * in.q.dim(1));
  if (num_lists > 0) {
    const double kept = static_cast<double>(columns.columns.num_elements()) / num_lists;
    cost.flops = 4.0 * static_cast<double>(in.q.dim(2)) * queries * kept;
  }
  return cost;
}

Cost conv3d_cost(const TensorView& x, const Conv3d& params, const TensorView& out) {
  Cost cost = traffic({x, params.weight, params.bias, params.residual, out});
  const std::int64_t num_pixels = out.dim(0) * out.dim(1) * out.dim(2);
  const std::int64_t out_channels = params.weight.dim(0);
  cost.flops = gemm_flops(num_pixels, out_channels, params.weight.num_elements() / out_channels);
  return cost;
}

Cost embedding_cost(const TensorView& out) { return traffic({out, out}); }

}  // namespace mochi::bench
