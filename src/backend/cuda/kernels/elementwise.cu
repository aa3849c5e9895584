// Elementwise operations.
#include "backend/cuda/common/activation.cuh"
#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/common/vector.cuh"
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/quantised.cuh"

namespace mochi::cuda {
namespace {

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
  __device__ float operator()(float x) const { return activate<T, Activation::kSilu>(x); }
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
    unpack(load_vector(g, chunk_idx * (kChunk / kSize) + i), part);
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
    store_vector(g, chunk_idx * (kChunk / kSize) + i, part);
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
  const bool is_aligned = has_vector_rows<Out>(0, {g_out, g_ins...});
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
      unpack(load_vector_once(g_a, i), a);
      unpack(load_vector_once(g_b, i), b);
#pragma unroll
      for (int j = 0; j < kSize; ++j) a[j] = activate<T, kActivation>(a[j]) * b[j];
      store_vector(g_row, i, a);
    }
  } else {
    for (std::int64_t i = threadIdx.x; i < features; i += kThreads) {
      const float a = activate<T, kActivation>(static_cast<float>(g_a[i]));
      g_row[i] = static_cast<T>(a * static_cast<float>(g_b[i]));
    }
  }
}

template <typename T, Activation kActivation>
void gate(cudaStream_t stream, const TensorView& x, const TensorView& out) {
  const T* g_x = data_of<const T>(x);
  T* g_out = data_of<T>(out);
  const auto rows = static_cast<unsigned>(out.dim(0));
  const std::int64_t features = out.dim(1);
  if (has_vector_rows<T>(features, {g_x, g_out})) {
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

void run(Gpu& gpu, const ops::Copy& op) {
  const std::int64_t n = op.source.num_elements();
  if (n == 0) return;
  if (op.source.dtype() == op.target.dtype()) {
    check(cudaMemcpyAsync(op.target.bytes(), op.source.bytes(), op.source.size_bytes(),
                          cudaMemcpyDeviceToDevice, gpu.stream()),
          "copy");
  } else if (op.source.dtype() == DType::kF32) {
    map(gpu.stream(), data_of<__nv_bfloat16>(op.target), n, Identity{},
        data_of<const float>(op.source));
  } else {
    map(gpu.stream(), data_of<float>(op.target), n, Identity{},
        data_of<const __nv_bfloat16>(op.source));
  }
  check_launch("copy");
}
template void compute(Gpu&, const ops::Copy&);

void run(Gpu& gpu, const ops::Add& op) {
  if (op.out.num_elements() == 0) return;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    map(gpu.stream(), data_of<T>(op.out), op.out.num_elements(), Sum{}, data_of<const T>(op.a),
        data_of<const T>(op.b));
  });
  check_launch("add");
}
template void compute(Gpu&, const ops::Add&);

void run(Gpu& gpu, const ops::Silu& op) {
  if (op.out.num_elements() == 0) return;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    map(gpu.stream(), data_of<T>(op.out), op.out.num_elements(), Silu<T>{}, data_of<const T>(op.x));
  });
  check_launch("silu");
}
template void compute(Gpu&, const ops::Silu&);

void run(Gpu& gpu, const ops::GatedActivation& op) {
  if (op.out.num_elements() == 0) return;
  write_rows(gpu, op.out, [&](const TensorView& out) {
    dispatch(gpu.activation_dtype(), [&]<typename T>() {
      switch (op.activation) {
        case Activation::kNone:
          return gate<T, Activation::kNone>(gpu.stream(), op.x, out);
        case Activation::kSilu:
          return gate<T, Activation::kSilu>(gpu.stream(), op.x, out);
        case Activation::kGeluTanh:
          return gate<T, Activation::kGeluTanh>(gpu.stream(), op.x, out);
      }
    });
  });
  check_launch("gated_activation");
}
template void compute(Gpu&, const ops::GatedActivation&);

void run(Gpu& gpu, const ops::GuidedEuler& op) {
  const std::int64_t n = op.z.num_elements();
  if (n == 0) return;
  guided_euler_kernel<<<num_blocks(n), kThreads, 0, gpu.stream()>>>(
      data_of<const float>(op.v_cond), data_of<const float>(op.v_null), op.cfg, op.dsigma,
      data_of<float>(op.z), n);
  check_launch("guided_euler");
}
template void compute(Gpu&, const ops::GuidedEuler&);

void run(Gpu& gpu, const ops::WeightedSum& op) {
  if (op.out.num_elements() == 0) return;
  map(gpu.stream(), data_of<float>(op.out), op.out.num_elements(),
      WeightedSum{op.weight_a, op.weight_b}, data_of<const float>(op.a),
      data_of<const float>(op.b));
  check_launch("weighted_sum");
}
template void compute(Gpu&, const ops::WeightedSum&);

}  // namespace mochi::cuda
