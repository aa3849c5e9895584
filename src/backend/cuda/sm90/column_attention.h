// Attention over listed columns on Hopper: docs/kernels/column-attention.md has the design and its
// numbers.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>

#include "backend/cuda/common/attention_params.cuh"

namespace mochi::cuda::sm90 {

using ColumnParams = AttentionParams<__nv_bfloat16>;

// Returns how many bytes of workspace launch_column_attention needs, aligned to 32.
std::size_t column_attention_workspace(const ColumnParams& params);

// Computes for lists of columns, a head_dim of 128 and a scale above 0.
// All data is aligned to 16 bytes. num_multiprocessors is that of the current GPU.
void launch_column_attention(const ColumnParams& params, std::byte* g_workspace,
                             int num_multiprocessors, cudaStream_t stream);

}  // namespace mochi::cuda::sm90
