// What one call of an operation has to do at least.
#pragma once

#include <initializer_list>

#include "backend/backend.h"

namespace mochi::bench {

struct Cost {
  double flops = 0;  // two per multiply-add of products, attention and convolutions; nothing else
  double bytes = 0;  // every input read and every output written once

  Cost& operator+=(const Cost& other) {
    flops += other.flops;
    bytes += other.bytes;
    return *this;
  }
};

// Of an operation without products: empty tensors count nothing; what is read and written is to be
// given twice.
Cost traffic(std::initializer_list<TensorView> tensors);

Cost linear_cost(const TensorView& x, const TensorView& weight, const TensorView& bias,
                 const TensorView& out, const LinearOptions& options);
// Of gated_linear() and qkv_linear(): `others` is what they read and write beside x and the weight.
Cost fused_linear_cost(const TensorView& x, const TensorView& weight,
                       std::initializer_list<TensorView> others);
Cost attention_cost(const AttentionInputs& in, const AttentionOutputs& to);
Cost column_sums_cost(const AttentionInputs& in, const ColumnSums& scores,
                      const AttentionOutputs& to);
// 4·head_dim for each query and column that it attends to, if all groups had as many queries.
Cost column_attention_cost(const AttentionInputs& in, const ColumnLists& columns,
                           const AttentionDelta& delta, const AttentionOutputs& to);
Cost conv3d_cost(const TensorView& x, const Conv3d& params, const TensorView& out);
// Table rows are read one for each of `out`.
Cost embedding_cost(const TensorView& out);

}  // namespace mochi::bench
