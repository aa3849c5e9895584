// Attention of query groups over their own columns.
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/attention_mma.cuh"
#include "backend/cuda/sm90/attention.h"
#include "backend/cuda/sm90/column_attention.h"

namespace mochi::cuda {
namespace {

// Blocks have 64 queries, four blocks per multiprocessor, so that one copies while another
// computes. Blocks of 128 queries use what they copy twice; they are taken if groups are made of
// whole ones.
constexpr int kWarps = 4;
constexpr int kQueriesOfTwoTiles = 128;

}  // namespace

void run(Gpu& gpu, const ops::ColumnSparseAttention& op) {
  if (op.to.out.num_elements() == 0) return;
  if (gpu.activation_dtype() == DType::kF32) {
    attend_simply(make_params<float>(op.in, op.to, op.columns, op.delta), gpu.stream());
    return;
  }
  const auto params = make_params<Bf16>(op.in, op.to, op.columns, op.delta);
  if (gpu.is_hopper() && params.head_dim == sm90::kAttentionHeadDim && op.in.scale > 0) {
    sm90::launch_column_attention(params, gpu.workspace(sm90::column_attention_workspace(params)),
                                  gpu.num_multiprocessors(), gpu.stream());
  } else if (!fits_mma(op.in)) {
    attend_simply(params, gpu.stream());
  } else if (params.group_size % kQueriesOfTwoTiles == 0) {
    attend_by_mma<kWarps, 2, true, false>(params, gpu.stream());
  } else {
    attend_by_mma<kWarps, 1, true, false>(params, gpu.stream());
  }
}
template void compute(Gpu&, const ops::ColumnSparseAttention&);

}  // namespace mochi::cuda
