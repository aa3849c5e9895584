// Selection and parameters of the attention kernels for Hopper.
#pragma once

#include "backend/cuda/common/head_rows.cuh"
#include "backend/cuda/sm90/attention.h"
#include "backend/ops/attention.h"

namespace mochi::cuda {

// Returns true if Hopper's kernels support these inputs, in BF16. Their copy engine needs rows at
// multiples of 16 bytes.
inline bool fits_hopper(const AttentionInputs& in) {
  return in.q.dim(2) == sm90::kAttentionHeadDim && has_vector_rows<__nv_bfloat16>(in) && !in.bias &&
         in.scale > 0;
}

inline sm90::DenseAttentionParams attention_on_hopper(const AttentionInputs& in,
                                                      const AttentionOutputs& to) {
  return {.q = rows_of<__nv_bfloat16>(in.q),
          .k = rows_of<__nv_bfloat16>(in.k),
          .v = rows_of<__nv_bfloat16>(in.v),
          .g_out = data_of<__nv_bfloat16>(to.out),
          .g_lse = data_of<float>(to.lse),
          .heads = in.q.dim(0),
          .num_queries = in.q.dim(1),
          .num_keys = in.k.dim(1),
          .scale = in.scale};
}

}  // namespace mochi::cuda
