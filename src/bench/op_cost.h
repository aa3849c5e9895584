// The least work of one call of an operation.
#pragma once

#include <initializer_list>

#include "backend/backend.h"

namespace mochi::bench {

struct Cost {
  double flops = 0;  // two per multiply-add of matmuls, attention and convolutions; nothing else
  double bytes = 0;  // every input read and every output written once

  Cost& operator+=(const Cost& other) {
    flops += other.flops;
    bytes += other.bytes;
    return *this;
  }
};

// Returns the cost of an operation without matmuls. Empty tensors count nothing. Pass a tensor
// twice if it is both read and written.
Cost traffic(std::initializer_list<TensorView> tensors);

Cost linear_cost(const TensorView& x, const TensorView& weight, const TensorView& bias,
                 const TensorView& out, const LinearOptions& options);
// Returns the cost of gated_linear() or qkv_linear(). `others` are the tensors that they read and
// write in addition to x and the weight.
Cost fused_linear_cost(const TensorView& x, const TensorView& weight,
                       std::initializer_list<TensorView> others);
Cost attention_cost(const AttentionInputs& in, const AttentionOutputs& to);
Cost column_sums_cost(const AttentionInputs& in, const ColumnSums& scores,
                      const AttentionOutputs& to);
// 4·head_dim for each query and column that it attends to, if all groups had as many queries.
Cost column_attention_cost(const AttentionInputs& in, const ColumnLists& columns,
                           const AttentionDelta& delta, const AttentionOutputs& to);
Cost conv3d_cost(const TensorView& x, const Conv3d& params, const TensorView& out);
// One table row is read for each row of `out`.
Cost embedding_cost(const TensorView& out);

}  // namespace mochi::bench
