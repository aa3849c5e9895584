// Elementwise operations.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/activation.cuh"
#include "backend/cuda/kernels/dispatch.cuh"
#include "backend/cuda/kernels/vector.cuh"

namespace mochi {
namespace {

using cuda::kVectorSize;

constexpr int kThreads = 256;
constexpr int kChunk = 8;  // elements of one thread

unsigned num_blocks(std::int64_t num_threads) {
  return static_cast<unsigned>((num_threads + kThreads - 1) / kThreads);
}

__device__ std::int64_t thread_idx() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

struct Identity {
  __device__ float operator()(float x) const { return x; }
};

template <typename T>
struct Silu {
  __device__ float operator()(float x) const { return cuda::activate<T, Activation::kSilu>(x); }
};

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};

template <typename T>
__device__ void load_chunk(const T* g, std::int64_t chunk_idx, float (&values)[kChunk]) {
  constexpr int kSize = kVectorSize<T>;
#pragma unroll
  for (int i = 0; i < kChunk / kSize; ++i) {
    float part[kSize];
    cuda::unpack(cuda::load_vector(g, chunk_idx * (kChunk / kSize) + i), part);
#pragma unroll
    for (int j = 0; j < kSize; ++j) values[i * kSize + j] = part[j];
  }
}

template <typename T>
__device__ void store_chunk(T* g, std::int64_t chunk_idx, const float (&values)[kChunk]) {
  constexpr int kSize = kVectorSize<T>;
#pragma unroll
  for (int i = 0; i < kChunk / kSize; ++i) {
    float part[kSize];
#pragma unroll
    for (int j = 0; j < kSize; ++j) part[j] = values[i * kSize + j];
    cuda::store_vector(g, chunk_idx * (kChunk / kSize) + i, part);
  }
}

// out[i] = fn(in[i]…) for i < n; the inputs have one type. Without alignment, elements are
// processed one by one.
template <typename Out, typename Fn, typename In, typename... Ins>
__global__ void __launch_bounds__(kThreads) map_kernel(Out* g_out, std::int64_t n, bool is_aligned,
                                                       Fn fn, const In* g_in, const Ins*... g_ins) {
  const std::int64_t chunk_idx = thread_idx();
  const std::int64_t first = chunk_idx * kChunk;
  if (is_aligned && first + kChunk <= n) {
    float values[kChunk];
    load_chunk(g_in, chunk_idx, values);
    if constexpr (sizeof...(Ins) == 1) {
      float others[kChunk];
      (load_chunk(g_ins, chunk_idx, others), ...);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) values[i] = fn(values[i], others[i]);
    } else {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) values[i] = fn(values[i]);
    }
    store_chunk(g_out, chunk_idx, values);
    return;
  }
  for (std::int64_t i = first; i < n && i < first + kChunk; ++i) {
    g_out[i] = static_cast<Out>(fn(static_cast<float>(g_in[i]), static_cast<float>(g_ins[i])...));
  }
}

template <typename Out, typename Fn, typename... Ins>
void map(cudaStream_t stream, Out* g_out, std::int64_t n, Fn fn, const Ins*... g_ins) {
  const bool is_aligned = cuda::has_vector_rows<Out>(0, {g_out, g_ins...});
  map_kernel<<<num_blocks((n + kChunk - 1) / kChunk), kThreads, 0, stream>>>(g_out, n, is_aligned,
                                                                             fn, g_ins...);
}

// out [rows, features] = act(a)·b with x [rows, 2·features] = (a | b). One block per row.
template <typename T, Activation kActivation, bool kIsVector>
__global__ void __launch_bounds__(kThreads)
    gated_activation_kernel(const T* g_x, T* g_out, std::int64_t features) {
  const T* g_a = g_x + blockIdx.x * 2 * features;
  const T* g_b = g_a + features;
  T* g_row = g_out + blockIdx.x * features;
  if constexpr (kIsVector) {
    constexpr int kSize = kVectorSize<T>;
#pragma unroll 4
    for (std::int64_t i = threadIdx.x; i < features / kSize; i += kThreads) {
      float a[kSize];
      float b[kSize];
      cuda::unpack(cuda::load_vector_once(g_a, i), a);
      cuda::unpack(cuda::load_vector_once(g_b, i), b);
#pragma unroll
      for (int j = 0; j < kSize; ++j) a[j] = cuda::activate<T, kActivation>(a[j]) * b[j];
      cuda::store_vector(g_row, i, a);
    }
  } else {
    for (std::int64_t i = threadIdx.x; i < features; i += kThreads) {
      const float a = cuda::activate<T, kActivation>(static_cast<float>(g_a[i]));
      g_row[i] = static_cast<T>(a * static_cast<float>(g_b[i]));
    }
  }
}

template <typename T, Activation kActivation>
void gate(cudaStream_t stream, const TensorView& x, const TensorView& out) {
  const T* g_x = cuda::data_of<const T>(x);
  T* g_out = cuda::data_of<T>(out);
  const auto rows = static_cast<unsigned>(out.dim(0));
  const std::int64_t features = out.dim(1);
  if (cuda::has_vector_rows<T>(features, {g_x, g_out})) {
    gated_activation_kernel<T, kActivation, true>
        <<<rows, kThreads, 0, stream>>>(g_x, g_out, features);
  } else {
    gated_activation_kernel<T, kActivation, false>
        <<<rows, kThreads, 0, stream>>>(g_x, g_out, features);
  }
}

__global__ void __launch_bounds__(kThreads)
    guided_euler_kernel(const float* g_cond, const float* g_null, float cfg, float dsigma,
                        float* g_z, std::int64_t n) {
  const std::int64_t i = thread_idx();
  if (i < n) g_z[i] += dsigma * (g_null[i] + cfg * (g_cond[i] - g_null[i]));
}

struct WeightedSum {
  float weight_a, weight_b;
  __device__ float operator()(float a, float b) const { return weight_a * a + weight_b * b; }
};

}  // namespace

void CudaBackend::do_copy(const TensorView& source, const TensorView& target) {
  const std::int64_t n = source.num_elements();
  if (n == 0) return;
  if (source.dtype() == target.dtype()) {
    cuda::check(cudaMemcpyAsync(target.bytes(), source.bytes(), source.size_bytes(),
                                cudaMemcpyDeviceToDevice, stream_),
                "copy");
  } else if (source.dtype() == DType::kF32) {
    map(stream_, cuda::data_of<__nv_bfloat16>(target), n, Identity{},
        cuda::data_of<const float>(source));
  } else {
    map(stream_, cuda::data_of<float>(target), n, Identity{},
        cuda::data_of<const __nv_bfloat16>(source));
  }
  cuda::check_launch("copy");
}

void CudaBackend::do_add(const TensorView& a, const TensorView& b, const TensorView& out) {
  if (out.num_elements() == 0) return;
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    map(stream_, cuda::data_of<T>(out), out.num_elements(), Sum{}, cuda::data_of<const T>(a),
        cuda::data_of<const T>(b));
  });
  cuda::check_launch("add");
}

void CudaBackend::do_silu(const TensorView& x, const TensorView& out) {
  if (out.num_elements() == 0) return;
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    map(stream_, cuda::data_of<T>(out), out.num_elements(), Silu<T>{}, cuda::data_of<const T>(x));
  });
  cuda::check_launch("silu");
}

void CudaBackend::do_gated_activation(const TensorView& x, Activation activation,
                                      const TensorView& out) {
  if (out.num_elements() == 0) return;
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    switch (activation) {
      case Activation::kNone:
        return gate<T, Activation::kNone>(stream_, x, out);
      case Activation::kSilu:
        return gate<T, Activation::kSilu>(stream_, x, out);
      case Activation::kGeluTanh:
        return gate<T, Activation::kGeluTanh>(stream_, x, out);
    }
  });
  cuda::check_launch("gated_activation");
}

void CudaBackend::do_guided_euler(const TensorView& v_cond, const TensorView& v_null, float cfg,
                                  float dsigma, const TensorView& z) {
  const std::int64_t n = z.num_elements();
  if (n == 0) return;
  guided_euler_kernel<<<num_blocks(n), kThreads, 0, stream_>>>(
      cuda::data_of<const float>(v_cond), cuda::data_of<const float>(v_null), cfg, dsigma,
      cuda::data_of<float>(z), n);
  cuda::check_launch("guided_euler");
}

void CudaBackend::do_weighted_sum(const TensorView& a, float weight_a, const TensorView& b,
                                  float weight_b, const TensorView& out) {
  if (out.num_elements() == 0) return;
  map(stream_, cuda::data_of<float>(out), out.num_elements(), WeightedSum{weight_a, weight_b},
      cuda::data_of<const float>(a), cuda::data_of<const float>(b));
  cuda::check_launch("weighted_sum");
}

}  // namespace mochi
