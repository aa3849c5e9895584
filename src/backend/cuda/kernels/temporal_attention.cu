// Causal attention over the frames of every pixel. One block has one head of one pixel. Its threads
// are queries; keys and values pass through shared memory, where all threads of a warp read the
// same one. q and k have unit length, which bounds the logits, so the softmax needs no maximum.
#include <algorithm>

#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/channel_vectors.cuh"

namespace mochi::cuda {
namespace {

constexpr int kKeyTile = 64;  // keys in shared memory at a time
constexpr int kMaxThreads = 256;
constexpr float kMinNorm = 1e-12F;

struct Sizes {
  int num_frames;
  int channels;
  std::int64_t num_pixels;
};

template <int kHeadDim>
__device__ void normalise(float (&vector)[kHeadDim], float factor) {
  float square = 0.0F;
#pragma unroll
  for (int d = 0; d < kHeadDim; ++d) square += vector[d] * vector[d];
  const float inverse = factor / fmaxf(sqrtf(square), kMinNorm);
#pragma unroll
  for (int d = 0; d < kHeadDim; ++d) vector[d] *= inverse;
}

template <typename T, int kHeadDim>
__device__ void load_head(const T* g_from, float (&vector)[kHeadDim]) {
  constexpr int kWidth = kMaxVector<T>;
#pragma unroll
  for (int d = 0; d < kHeadDim; d += kWidth) {
    const auto loaded = load_vector<T, kWidth>(g_from + d);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) vector[d + i] = loaded[i];
  }
}

// g_qkv [frames, pixels, 3·channels] → g_out [frames, pixels, channels]. Grid: pixels·heads, blocks
// of queries.
template <typename T, int kHeadDim>
__global__ void __launch_bounds__(kMaxThreads)
    temporal_attention_kernel(const T* g_qkv, T* g_out, Sizes sizes) {
  __shared__ float4 s_keys[kKeyTile][kHeadDim / 4];
  __shared__ float4 s_values[kKeyTile][kHeadDim / 4];
  const int num_heads = sizes.channels / kHeadDim;
  const std::int64_t pixel = blockIdx.x / num_heads;
  const int first = static_cast<int>(blockIdx.x % num_heads) * kHeadDim;
  const std::int64_t frame_stride = sizes.num_pixels * 3 * sizes.channels;
  const T* g_head = g_qkv + pixel * 3 * sizes.channels + first;
  const int query = blockIdx.y * blockDim.x + threadIdx.x;
  const bool is_query = query < sizes.num_frames;
  float q[kHeadDim];
  float sums[kHeadDim] = {};
  float total = 0.0F;
  if (is_query) {
    load_head<T, kHeadDim>(g_head + query * frame_stride, q);
    normalise<kHeadDim>(q, rsqrtf(static_cast<float>(kHeadDim)));
  }
  const int end = min(static_cast<int>((blockIdx.y + 1) * blockDim.x), sizes.num_frames);
  for (int base = 0; base < end; base += kKeyTile) {
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * kKeyTile; i += blockDim.x) {
      const int key = i % kKeyTile;
      const bool is_value = i >= kKeyTile;
      if (base + key >= end) continue;
      float vector[kHeadDim];
      load_head<T, kHeadDim>(
          g_head + (base + key) * frame_stride + (is_value ? 2 : 1) * sizes.channels, vector);
      if (!is_value) normalise<kHeadDim>(vector, 1.0F);
      float4(&s_row)[kHeadDim / 4] = is_value ? s_values[key] : s_keys[key];
#pragma unroll
      for (int d = 0; d < kHeadDim / 4; ++d) {
        s_row[d] = {vector[4 * d], vector[4 * d + 1], vector[4 * d + 2], vector[4 * d + 3]};
      }
    }
    __syncthreads();
    const int num_keys = is_query ? min(query - base + 1, kKeyTile) : 0;
    for (int key = 0; key < num_keys; ++key) {
      float logit = 0.0F;
#pragma unroll
      for (int d = 0; d < kHeadDim / 4; ++d) {
        const float4 k = s_keys[key][d];
        logit += q[4 * d] * k.x + q[4 * d + 1] * k.y + q[4 * d + 2] * k.z + q[4 * d + 3] * k.w;
      }
      const float weight = __expf(logit);
      total += weight;
#pragma unroll
      for (int d = 0; d < kHeadDim / 4; ++d) {
        const float4 v = s_values[key][d];
        sums[4 * d] += weight * v.x;
        sums[4 * d + 1] += weight * v.y;
        sums[4 * d + 2] += weight * v.z;
        sums[4 * d + 3] += weight * v.w;
      }
    }
  }
  if (!is_query) return;
  constexpr int kWidth = kMaxVector<T>;
  const float inverse = 1.0F / total;
  T* g_to = g_out + (query * sizes.num_pixels + pixel) * sizes.channels + first;
#pragma unroll
  for (int d = 0; d < kHeadDim; d += kWidth) {
    ChannelVector<T, kWidth> out;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) out.set(i, sums[d + i] * inverse);
    store_vector(g_to + d, out);
  }
}

// Any head size, slowly: one warp per query, whose lanes share the head's elements.
// Grid: pixels·heads, queries.
template <typename T>
__global__ void __launch_bounds__(32)
    any_temporal_attention_kernel(const T* g_qkv, T* g_out, Sizes sizes, int head_dim) {
  extern __shared__ float s_sums[];  // [head_dim]
  const int num_heads = sizes.channels / head_dim;
  const std::int64_t pixel = blockIdx.x / num_heads;
  const int first = static_cast<int>(blockIdx.x % num_heads) * head_dim;
  const std::int64_t frame_stride = sizes.num_pixels * 3 * sizes.channels;
  const T* g_head = g_qkv + pixel * 3 * sizes.channels + first;
  const int lane = threadIdx.x;
  const auto reduce = [](float value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0U, value, step);
    return value;
  };
  const auto dot = [&](const T* g_a, const T* g_b) {
    float sum = 0.0F;
    for (int d = lane; d < head_dim; d += 32) {
      sum += static_cast<float>(g_a[d]) * static_cast<float>(g_b[d]);
    }
    return reduce(sum);
  };
  const int query = blockIdx.y;
  const T* g_q = g_head + query * frame_stride;
  const float q_norm = fmaxf(sqrtf(dot(g_q, g_q)), kMinNorm);
  for (int d = lane; d < head_dim; d += 32) s_sums[d] = 0.0F;
  float total = 0.0F;
  for (int key = 0; key <= query; ++key) {
    const T* g_k = g_head + key * frame_stride + sizes.channels;
    const T* g_v = g_k + sizes.channels;
    const float norms = q_norm * fmaxf(sqrtf(dot(g_k, g_k)), kMinNorm);
    const float weight = __expf(dot(g_q, g_k) / norms * rsqrtf(static_cast<float>(head_dim)));
    total += weight;
    for (int d = lane; d < head_dim; d += 32) s_sums[d] += weight * static_cast<float>(g_v[d]);
  }
  T* g_to = g_out + (query * sizes.num_pixels + pixel) * sizes.channels + first;
  for (int d = lane; d < head_dim; d += 32) g_to[d] = static_cast<T>(s_sums[d] / total);
}

}  // namespace

void run(Gpu& gpu, const ops::TemporalAttention& op) {
  if (op.out.num_elements() == 0) return;
  const Sizes sizes{static_cast<int>(op.out.dim(0)), static_cast<int>(op.out.dim(3)),
                    op.out.dim(1) * op.out.dim(2)};
  const auto num_heads = static_cast<unsigned>(sizes.num_pixels * (sizes.channels / op.head_dim));
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    const T* g_qkv = data_of<const T>(op.qkv);
    T* g_out = data_of<T>(op.out);
    if (op.head_dim == 32) {  // the head size of Mochi
      const int threads = std::min((sizes.num_frames + 31) / 32 * 32, kMaxThreads);
      const dim3 grid(num_heads, (sizes.num_frames + threads - 1) / threads);
      temporal_attention_kernel<T, 32><<<grid, threads, 0, gpu.stream()>>>(g_qkv, g_out, sizes);
    } else {
      const dim3 grid(num_heads, sizes.num_frames);
      any_temporal_attention_kernel<T><<<grid, 32, op.head_dim * sizeof(float), gpu.stream()>>>(
          g_qkv, g_out, sizes, op.head_dim);
    }
  });
  check_launch("temporal_attention");
}
template void compute(Gpu&, const ops::TemporalAttention&);

}  // namespace mochi::cuda
