// Attention of query groups over their own columns.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/attention_mma.cuh"
#include "backend/cuda/sm90/attention.h"
#include "backend/cuda/sm90/column_attention.h"

namespace mochi {
namespace {

// Blocks have 64 queries, four blocks per multiprocessor, so that one copies while another
// computes. Blocks of 128 queries use what they copy twice; they are taken if groups are made of
// whole ones.
constexpr int kWarps = 4;
constexpr int kQueriesOfTwoTiles = 128;

}  // namespace

void CudaBackend::do_column_sparse_attention(const AttentionInputs& in, const ColumnLists& columns,
                                             const AttentionDelta& delta,
                                             const AttentionOutputs& to) {
  if (to.out.num_elements() == 0) return;
  if (activation_dtype_ == DType::kF32) {
    cuda::attend_simply(cuda::make_problem<float>(in, to, columns, delta), stream_);
    return;
  }
  const auto problem = cuda::make_problem<cuda::Bf16>(in, to, columns, delta);
  if (is_hopper() && problem.head_dim == cuda::sm90::kAttentionHeadDim && in.scale > 0) {
    cuda::sm90::launch_column_attention(
        problem, workspace(cuda::sm90::column_attention_workspace(problem)), stream_);
  } else if (!cuda::fits_mma(in)) {
    cuda::attend_simply(problem, stream_);
  } else if (problem.group_size % kQueriesOfTwoTiles == 0) {
    cuda::attend_by_mma<kWarps, 2, true, false>(problem, stream_);
  } else {
    cuda::attend_by_mma<kWarps, 1, true, false>(problem, stream_);
  }
}

}  // namespace mochi
