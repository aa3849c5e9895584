// The deltas that stand for the columns which sparse attention leaves out.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/dispatch.cuh"
#include "backend/cuda/kernels/vector.cuh"

namespace mochi {
namespace {

constexpr int kThreads = 256;
constexpr int kPieces = 2;  // of a thread, loaded together
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

  // cache = (dense − mass·sparse) / divisor.
  struct Parts {
    float mass = 1.0F;  // softmax mass of the chosen columns
    float divisor = 1.0F;
    float weight = 0.0F;
  };
  __device__ Parts find_parts(std::int64_t row) const {
    if (g_weight == nullptr) return {};
    const float dense_lse = g_dense_lse[row];
    const float chosen_lse = g_sparse_lse[row];
    const float mass = fminf(expf(chosen_lse - dense_lse), 1.0F);
    if (!is_merged) return {mass, 1.0F, mass};
    const float rest = 1.0F - mass;
    if (rest < kMinRest) return {mass, 1.0F, kLseOfNothing};
    return {mass, rest, dense_lse + logf(rest) - follow * chosen_lse};
  }
};

// kWidth elements from the kWidth·i-th on: a vector, or one.
template <typename T, int kWidth>
__device__ void load_piece(const T* g, std::int64_t i, float (&values)[kWidth]) {
  if constexpr (kWidth == 1) {
    values[0] = static_cast<float>(g[i]);
  } else {
    cuda::unpack(cuda::load_vector_once(g, i), values);
  }
}
template <typename T, int kWidth>
__device__ void store_piece(T* g, std::int64_t i, const float (&values)[kWidth]) {
  if constexpr (kWidth == 1) {
    g[i] = static_cast<T>(values[0]);
  } else {
    cuda::store_vector(g, i, values);
  }
}

// Block (x, y): pieces of kWidth elements of head y, query by query.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) delta_kernel(const DeltaProblem<T> p) {
  const unsigned pieces_per_row = p.head_dim / kWidth;
  const auto num_pieces = static_cast<unsigned>(p.num_queries * pieces_per_row);
  const unsigned first = blockIdx.x * kThreads * kPieces + threadIdx.x;
  const unsigned head = blockIdx.y;
  float dense[kPieces][kWidth];
  float sparse[kPieces][kWidth];
  std::int64_t places[kPieces];
#pragma unroll
  for (int j = 0; j < kPieces; ++j) {
    const unsigned i = first + j * kThreads;
    if (i >= num_pieces) break;
    const unsigned query = i / pieces_per_row;
    places[j] = (static_cast<std::int64_t>(query) * p.num_heads + head) * pieces_per_row +
                i % pieces_per_row;
    load_piece(p.g_dense, places[j], dense[j]);
    load_piece(p.g_sparse, places[j], sparse[j]);
  }
#pragma unroll
  for (int j = 0; j < kPieces; ++j) {
    const unsigned i = first + j * kThreads;
    if (i >= num_pieces) break;
    const std::int64_t row = head * p.num_queries + i / pieces_per_row;
    const auto parts = p.find_parts(row);
    if (p.g_weight != nullptr && i % pieces_per_row == 0) p.g_weight[row] = parts.weight;
#pragma unroll
    for (int d = 0; d < kWidth; ++d) {
      dense[j][d] = (dense[j][d] - parts.mass * sparse[j][d]) / parts.divisor;
    }
    store_piece(p.g_cache, places[j], dense[j]);
  }
}

template <typename T, int kWidth>
void launch(const DeltaProblem<T>& problem, cudaStream_t stream) {
  constexpr int kPerBlock = kThreads * kPieces;
  const std::int64_t num_pieces = problem.num_queries * (problem.head_dim / kWidth);
  const dim3 grid(static_cast<unsigned>((num_pieces + kPerBlock - 1) / kPerBlock),
                  static_cast<unsigned>(problem.num_heads));
  delta_kernel<T, kWidth><<<grid, kThreads, 0, stream>>>(problem);
  cuda::check_launch("find_delta");
}

}  // namespace

void CudaBackend::do_find_delta(const AttentionOutputs& dense, const AttentionOutputs& sparse,
                                const AttentionDelta& delta) {
  if (dense.out.num_elements() == 0) return;
  const std::int64_t num_heads = delta.weight ? delta.weight.dim(0) : 1;
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    const DeltaProblem<T> problem{.g_dense = cuda::data_of<const T>(dense.out),
                                  .g_sparse = cuda::data_of<const T>(sparse.out),
                                  .g_dense_lse = cuda::data_of<const float>(dense.lse),
                                  .g_sparse_lse = cuda::data_of<const float>(sparse.lse),
                                  .g_cache = cuda::data_of<T>(delta.cache),
                                  .g_weight = cuda::data_of<float>(delta.weight),
                                  .num_queries = dense.out.dim(0),
                                  .num_heads = static_cast<int>(num_heads),
                                  .head_dim = static_cast<int>(dense.out.dim(1) / num_heads),
                                  .follow = delta.follow,
                                  .is_merged = delta.is_merged};
    constexpr int kWidth = cuda::kVectorSize<T>;
    if (cuda::has_vector_rows<T>(problem.head_dim,
                                 {problem.g_dense, problem.g_sparse, problem.g_cache})) {
      launch<T, kWidth>(problem, stream_);
    } else {
      launch<T, 1>(problem, stream_);
    }
  });
}

}  // namespace mochi
