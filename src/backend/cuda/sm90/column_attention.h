// Attention over listed columns on Hopper: docs/kernels/column-attention.md has the design and its
// numbers.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>

#include "backend/cuda/kernels/attention_problem.cuh"

namespace mochi::cuda::sm90 {

using ColumnProblem = AttentionProblem<__nv_bfloat16>;

// Returns how many bytes of workspace launch_column_attention needs, aligned to 32.
std::size_t column_attention_workspace(const ColumnProblem& problem);

// Computes on `stream` of device 0, for lists of columns, a head_dim of 128 and a scale above 0.
// All data is aligned to 16 bytes.
void launch_column_attention(const ColumnProblem& problem, std::byte* g_workspace,
                             cudaStream_t stream);

}  // namespace mochi::cuda::sm90
