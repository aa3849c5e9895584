// Attention of query groups over columns of their own, and the deltas that stand for the others.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/attention_mma.cuh"

namespace mochi {
namespace {

// Blocks of 64 queries: whole groups of 192 and 128, and four blocks to a multiprocessor, so that
// one copies while another computes.
constexpr int kWarps = 4;
constexpr int kTiles = 1;

constexpr int kWarpsPerBlock = 8;
// A smaller rest than this is rounding, and stands for no columns.
constexpr float kMinRest = 1e-6F;
constexpr float kLseOfNothing = -1e30F;

template <typename T>
struct DeltaProblem {
  const T *g_dense, *g_sparse;              // [num_queries, num_heads·head_dim]
  const float *g_dense_lse, *g_sparse_lse;  // [num_heads, num_queries]
  T* g_cache;                               // [num_queries, num_heads·head_dim]
  float* g_weight;                          // [num_heads, num_queries], or null
  std::int64_t num_queries;
  int num_heads, head_dim;
  float follow;
  bool is_merged;
};

// A warp for every query and head.
template <typename T>
__global__ void __launch_bounds__(kWarpsPerBlock * 32) delta_kernel(const DeltaProblem<T> p) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32;
  if (i >= p.num_queries * p.num_heads) return;
  const std::int64_t row = i % p.num_heads * p.num_queries + i / p.num_heads;
  float mass = 1.0F;     // softmax mass of the chosen columns
  float divisor = 1.0F;  // of what is left
  if (p.g_weight != nullptr) {
    const float dense_lse = p.g_dense_lse[row];
    const float chosen_lse = p.g_sparse_lse[row];
    mass = fminf(expf(chosen_lse - dense_lse), 1.0F);
    const float rest = 1.0F - mass;
    const bool is_empty = rest < kMinRest;
    if (p.is_merged) divisor = is_empty ? 1.0F : rest;
    if (threadIdx.x % 32 == 0) {
      p.g_weight[row] = !p.is_merged ? mass
                        : is_empty   ? kLseOfNothing
                                     : dense_lse + logf(rest) - p.follow * chosen_lse;
    }
  }
  for (std::int64_t at = i * p.head_dim + threadIdx.x % 32; at < (i + 1) * p.head_dim; at += 32) {
    const float rest =
        static_cast<float>(p.g_dense[at]) - mass * static_cast<float>(p.g_sparse[at]);
    p.g_cache[at] = static_cast<T>(rest / divisor);
  }
}

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
  if (!cuda::fits_mma(in)) {
    cuda::attend_simply(problem, stream_);
  } else {
    cuda::attend_by_mma<kWarps, kTiles, true, false>(problem, stream_);
  }
}

void CudaBackend::do_find_delta(const AttentionOutputs& dense, const AttentionOutputs& sparse,
                                const AttentionDelta& delta) {
  if (dense.out.num_elements() == 0) return;
  const std::int64_t num_queries = dense.out.dim(0);
  const std::int64_t num_heads = delta.weight ? delta.weight.dim(0) : 1;
  const std::int64_t num_blocks = (num_queries * num_heads + kWarpsPerBlock - 1) / kWarpsPerBlock;
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    const DeltaProblem<T> problem{.g_dense = cuda::data_of<const T>(dense.out),
                                  .g_sparse = cuda::data_of<const T>(sparse.out),
                                  .g_dense_lse = cuda::data_of<const float>(dense.lse),
                                  .g_sparse_lse = cuda::data_of<const float>(sparse.lse),
                                  .g_cache = cuda::data_of<T>(delta.cache),
                                  .g_weight = cuda::data_of<float>(delta.weight),
                                  .num_queries = num_queries,
                                  .num_heads = static_cast<int>(num_heads),
                                  .head_dim = static_cast<int>(dense.out.dim(1) / num_heads),
                                  .follow = delta.follow,
                                  .is_merged = delta.is_merged};
    delta_kernel<T>
        <<<static_cast<unsigned>(num_blocks), kWarpsPerBlock * 32, 0, stream_>>>(problem);
  });
  cuda::check_launch("find_delta");
}

}  // namespace mochi
