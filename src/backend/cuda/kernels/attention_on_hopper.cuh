// What attention on Hopper is given.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/kernels/dispatch.cuh"
#include "backend/cuda/sm90/attention.h"

namespace mochi::cuda {

inline sm90::AttentionParams attention_on_hopper(const AttentionInputs& in,
                                                 const AttentionOutputs& to) {
  return {.g_q = data_of<const __nv_bfloat16>(in.q),
          .g_k = data_of<const __nv_bfloat16>(in.k),
          .g_v = data_of<const __nv_bfloat16>(in.v),
          .g_out = data_of<__nv_bfloat16>(to.out),
          .g_lse = data_of<float>(to.lse),
          .heads = in.q.dim(0),
          .num_queries = in.q.dim(1),
          .num_keys = in.k.dim(1),
          .scale = in.scale};
}

}  // namespace mochi::cuda
