// Norm, rotation and layout between the matmul for queries, keys and values, and attention.
#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/common/norm_rope.cuh"
#include "backend/cuda/common/vector.cuh"
#include "backend/cuda/implement.h"

namespace mochi::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeadsPerBlock = 4;

template <typename T>
struct Params {
  const T* g_qkv;  // [tokens, 3, heads, head_dim]
  const float* g_q_weight;
  const float* g_k_weight;  // [head_dim]
  const float* g_cos;
  const float* g_sin;  // [tokens, heads, head_dim / 2], or null
  T* g_q;
  T* g_k;
  T* g_v;  // [heads, total, head_dim]
  std::int64_t tokens, offset, total;
  int heads, head_dim;
  float eps;

  __device__ const T* in(std::int64_t token, int which, int head) const {
    return g_qkv + ((token * 3 + which) * heads + head) * head_dim;
  }
  __device__ std::int64_t out_offset(std::int64_t token, int head) const {
    return (head * total + offset + token) * head_dim;
  }
  __device__ std::int64_t table_offset(std::int64_t token, int head) const {
    return (token * heads + head) * (head_dim / 2);
  }
};

// kLanes lanes hold one head of one token, a vector each. A block has consecutive tokens, so that
// its output of a head is contiguous.
template <typename T, int kLanes, bool kHasRotary>
__global__ void __launch_bounds__(kThreads, 3) norm_rope_kernel(Params<T> params) {
  constexpr int kSize = kVectorSize<T>;
  constexpr int kTokens = kThreads / kLanes;
  const int lane = threadIdx.x % kLanes;
  // Threads without a token repeat the last one's work, because all take part in the sums over
  // lanes.
  const std::int64_t token = min(
      static_cast<std::int64_t>(blockIdx.x) * kTokens + threadIdx.x / kLanes, params.tokens - 1);
  float q_weight[kSize];
  float k_weight[kSize];
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    q_weight[i] = params.g_q_weight[lane * kSize + i];
    k_weight[i] = params.g_k_weight[lane * kSize + i];
  }
  const int first_head = blockIdx.y * kHeadsPerBlock;
#pragma unroll 2
  for (int i = 0; i < kHeadsPerBlock; ++i) {
    const int head = first_head + i;
    if (head >= params.heads) break;
    const uint4 q_in = load_vector_once(params.in(token, 0, head), lane);
    const uint4 k_in = load_vector_once(params.in(token, 1, head), lane);
    const uint4 v_in = load_vector_once(params.in(token, 2, head), lane);
    float cosines[kSize / 2];
    float sines[kSize / 2];
    if constexpr (kHasRotary) {
      const std::int64_t offset = params.table_offset(token, head) + lane * (kSize / 2);
      load_floats(params.g_cos + offset, cosines);
      load_floats(params.g_sin + offset, sines);
    }
    const auto finish = [&](const uint4& in, const float(&weight)[kSize], T* g_out) {
      float values[kSize];
      unpack(in, values);
      norm<kLanes>(values, weight, params.eps);
      if constexpr (kHasRotary) rotate(values, cosines, sines);
      store_vector(g_out, lane, values);
    };
    const std::int64_t out_offset = params.out_offset(token, head);
    finish(q_in, q_weight, params.g_q + out_offset);
    finish(k_in, k_weight, params.g_k + out_offset);
    reinterpret_cast<uint4*>(params.g_v + out_offset)[lane] = v_in;
  }
}

// Any head_dim: one warp per head of a token reads it twice.
template <typename T>
__global__ void __launch_bounds__(kThreads) norm_rope_any_kernel(Params<T> params) {
  const int lane = threadIdx.x % 32;
  const std::int64_t idx =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  const std::int64_t token = idx / params.heads;
  const auto head = static_cast<int>(idx % params.heads);
  if (token >= params.tokens) return;
  const std::int64_t out_offset = params.out_offset(token, head);
  const auto norm_rotate = [&](const T* g_in, const float* g_weight, T* g_out) {
    float sum = 0.0F;
    for (int i = lane; i < params.head_dim; i += 32) {
      sum += static_cast<float>(g_in[i]) * static_cast<float>(g_in[i]);
    }
    sum = sum_over_lanes(sum);
    const float factor = 1.0F / sqrtf(sum / static_cast<float>(params.head_dim) + params.eps);
    for (int j = lane; j < params.head_dim / 2; j += 32) {
      const float even = static_cast<float>(g_in[2 * j]) * factor * g_weight[2 * j];
      const float odd = static_cast<float>(g_in[2 * j + 1]) * factor * g_weight[2 * j + 1];
      const std::int64_t table_idx = params.table_offset(token, head) + j;
      const float cosine = params.g_cos != nullptr ? params.g_cos[table_idx] : 1.0F;
      const float sine = params.g_sin != nullptr ? params.g_sin[table_idx] : 0.0F;
      g_out[2 * j] = static_cast<T>(even * cosine - odd * sine);
      g_out[2 * j + 1] = static_cast<T>(even * sine + odd * cosine);
    }
  };
  norm_rotate(params.in(token, 0, head), params.g_q_weight, params.g_q + out_offset);
  norm_rotate(params.in(token, 1, head), params.g_k_weight, params.g_k + out_offset);
  const T* g_v_in = params.in(token, 2, head);
  for (int i = lane; i < params.head_dim; i += 32) params.g_v[out_offset + i] = g_v_in[i];
}

template <typename T, int kLanes>
void launch(cudaStream_t stream, const Params<T>& params) {
  constexpr std::int64_t kTokens = kThreads / kLanes;
  const dim3 grid(static_cast<unsigned>((params.tokens + kTokens - 1) / kTokens),
                  static_cast<unsigned>((params.heads + kHeadsPerBlock - 1) / kHeadsPerBlock));
  if (params.g_cos != nullptr) {
    norm_rope_kernel<T, kLanes, true><<<grid, kThreads, 0, stream>>>(params);
  } else {
    norm_rope_kernel<T, kLanes, false><<<grid, kThreads, 0, stream>>>(params);
  }
}

}  // namespace

void run(Gpu& gpu, const ops::QkNormRope& op) {
  if (op.qkv.num_elements() == 0) return;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    const Params<T> p{.g_qkv = data_of<const T>(op.qkv),
                      .g_q_weight = data_of<const float>(op.norm.q_weight),
                      .g_k_weight = data_of<const float>(op.norm.k_weight),
                      .g_cos = data_of<const float>(op.norm.cos),
                      .g_sin = data_of<const float>(op.norm.sin),
                      .g_q = data_of<T>(op.q),
                      .g_k = data_of<T>(op.k),
                      .g_v = data_of<T>(op.v),
                      .tokens = op.qkv.dim(0),
                      .offset = op.offset,
                      .total = op.q.dim(1),
                      .heads = static_cast<int>(op.q.dim(0)),
                      .head_dim = static_cast<int>(op.q.dim(2)),
                      .eps = op.norm.eps};
    const bool is_vector =
        has_vector_rows<T>(p.head_dim, {p.g_qkv, p.g_cos, p.g_sin, p.g_q, p.g_k, p.g_v});
    const int lanes = is_vector ? p.head_dim / kVectorSize<T> : 0;
    if (lanes == 32) return launch<T, 32>(gpu.stream(), p);
    if (lanes == 16) return launch<T, 16>(gpu.stream(), p);
    if (lanes == 8) return launch<T, 8>(gpu.stream(), p);
    const std::int64_t num_warps = p.tokens * p.heads;
    norm_rope_any_kernel<T>
        <<<static_cast<unsigned>((num_warps + kThreads / 32 - 1) / (kThreads / 32)), kThreads, 0,
           gpu.stream()>>>(p);
  });
  check_launch("qk_norm_rope");
}
template void compute(Gpu&, const ops::QkNormRope&);

}  // namespace mochi::cuda
