// The deltas for the columns that sparse attention leaves out.
#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/common/float8.cuh"
#include "backend/cuda/common/vector.cuh"
#include "backend/cuda/implement.h"
#include "tensor/float8.h"

namespace mochi::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPieces = 2;  // pieces of a thread, loaded together
// A smaller remaining mass is rounding error and is treated as zero.
constexpr float kMinRest = 1e-6F;
constexpr float kLseOfNothing = -1e30F;

template <typename T>
struct DeltaParams {
  const T *g_dense, *g_sparse;              // [num_queries, num_heads·head_dim]
  const float *g_dense_lse, *g_sparse_lse;  // [num_heads, num_queries]
  void* g_cache;                            // [num_queries, num_heads·head_dim] T or F8_E4M3
  float* g_cache_scale;                     // [num_heads, num_queries] for F8_E4M3, else null
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

// Loads the i-th piece of kWidth elements: a vector, or one element.
template <typename T, int kWidth>
__device__ void load_piece(const T* g, std::int64_t i, float (&values)[kWidth]) {
  if constexpr (kWidth == 1) {
    values[0] = static_cast<float>(g[i]);
  } else {
    unpack(load_vector_once(g, i), values);
  }
}
template <typename T, int kWidth>
__device__ void store_piece(T* g, std::int64_t i, const float (&values)[kWidth]) {
  if constexpr (kWidth == 1) {
    g[i] = static_cast<T>(values[0]);
  } else {
    store_vector(g, i, values);
  }
}

// Block (x, y) computes pieces of kWidth elements of head y, query by query.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) delta_kernel(const DeltaParams<T> p) {
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
    store_piece(static_cast<T*>(p.g_cache), places[j], dense[j]);
  }
}

// Stores the i-th piece of kWidth codes.
template <int kWidth>
__device__ void store_codes(void* g, std::int64_t i, const float (&values)[kWidth]) {
  if constexpr (kWidth == 1) {
    static_cast<std::uint8_t*>(g)[i] = static_cast<std::uint8_t>(pack_f8(values[0], 0.0F));
  } else {
    std::uint32_t words[kWidth / 4];
#pragma unroll
    for (int d = 0; d < kWidth; d += 4) {
      words[d / 4] = pack_f8(values[d], values[d + 1]) |
                     static_cast<std::uint32_t>(pack_f8(values[d + 2], values[d + 3])) << 16;
    }
    if constexpr (kWidth == 4) {
      static_cast<std::uint32_t*>(g)[i] = words[0];
    } else {
      static_cast<uint2*>(g)[i] = {words[0], words[1]};
    }
  }
}

constexpr int kLanes = 16;  // threads per query
constexpr int kQueries = kThreads / kLanes;

// Computes an F8_E4M3 cache. Block (x, y) has kQueries queries of head y. Rows of more than kLanes
// pieces are read and computed twice.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) f8_delta_kernel(const DeltaParams<T> p) {
  const std::int64_t own = static_cast<std::int64_t>(blockIdx.x) * kQueries + threadIdx.x / kLanes;
  const std::int64_t query = min(own, p.num_queries - 1);
  const std::int64_t head = blockIdx.y;
  const std::int64_t row = head * p.num_queries + query;
  const auto parts = p.find_parts(row);
  const int pieces_per_row = p.head_dim / kWidth;
  const std::int64_t first = (query * p.num_heads + head) * pieces_per_row;
  float values[kWidth];
  const auto find_piece = [&](int piece) {
    float sparse[kWidth];
    load_piece(p.g_dense, first + piece, values);
    load_piece(p.g_sparse, first + piece, sparse);
#pragma unroll
    for (int d = 0; d < kWidth; ++d) {
      values[d] = (values[d] - parts.mass * sparse[d]) / parts.divisor;
    }
  };
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  float highest = 0.0F;
#pragma unroll 1
  for (int piece = lane; piece < pieces_per_row; piece += kLanes) {
    find_piece(piece);
#pragma unroll
    for (const float value : values) highest = fmaxf(highest, fabsf(value));
  }
  highest = max_over_lanes<kLanes>(highest);
  if (own != query) return;
  const float scale = highest / kMaxF8E4M3;
  if (lane == 0) {
    p.g_cache_scale[row] = scale;
    if (p.g_weight != nullptr) p.g_weight[row] = parts.weight;
  }
#pragma unroll 1
  for (int piece = lane; piece < pieces_per_row; piece += kLanes) {
    if (pieces_per_row > kLanes) find_piece(piece);
#pragma unroll
    for (float& value : values) value = scale > 0.0F ? value / scale : 0.0F;
    store_codes(p.g_cache, first + piece, values);
  }
}

template <typename T, int kWidth>
void launch(const DeltaParams<T>& params, cudaStream_t stream) {
  const auto heads = static_cast<unsigned>(params.num_heads);
  const auto count_blocks = [](std::int64_t size, std::int64_t per_block) {
    return static_cast<unsigned>((size + per_block - 1) / per_block);
  };
  if (params.g_cache_scale != nullptr) {
    const dim3 grid(count_blocks(params.num_queries, kQueries), heads);
    f8_delta_kernel<T, kWidth><<<grid, kThreads, 0, stream>>>(params);
  } else {
    const std::int64_t num_pieces = params.num_queries * (params.head_dim / kWidth);
    const dim3 grid(count_blocks(num_pieces, kThreads * kPieces), heads);
    delta_kernel<T, kWidth><<<grid, kThreads, 0, stream>>>(params);
  }
  check_launch("find_delta");
}

}  // namespace

void run(Gpu& gpu, const ops::FindDelta& op) {
  if (op.dense.out.num_elements() == 0) return;
  const TensorView& of_heads = op.delta.weight ? op.delta.weight : op.delta.cache_scale;
  const std::int64_t num_heads = of_heads ? of_heads.dim(0) : 1;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    const DeltaParams<T> params{.g_dense = data_of<const T>(op.dense.out),
                                .g_sparse = data_of<const T>(op.sparse.out),
                                .g_dense_lse = data_of<const float>(op.dense.lse),
                                .g_sparse_lse = data_of<const float>(op.sparse.lse),
                                .g_cache = op.delta.cache.bytes(),
                                .g_cache_scale = data_of<float>(op.delta.cache_scale),
                                .g_weight = data_of<float>(op.delta.weight),
                                .num_queries = op.dense.out.dim(0),
                                .num_heads = static_cast<int>(num_heads),
                                .head_dim = static_cast<int>(op.dense.out.dim(1) / num_heads),
                                .follow = op.delta.follow,
                                .is_merged = op.delta.is_merged};
    constexpr int kWidth = kVectorSize<T>;
    if (has_vector_rows<T>(params.head_dim, {params.g_dense, params.g_sparse, params.g_cache})) {
      launch<T, kWidth>(params, gpu.stream());
    } else {
      launch<T, 1>(params, gpu.stream());
    }
  });
}
template void compute(Gpu&, const ops::FindDelta&);

}  // namespace mochi::cuda
