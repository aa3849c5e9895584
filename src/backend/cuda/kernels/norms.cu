// Norms over rows, with a weight or a modulation.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/dispatch.cuh"
#include "backend/cuda/kernels/warp_row.cuh"

namespace mochi {
namespace {

using cuda::kMaxVectors;
using cuda::kVectorSize;
using cuda::SharedVectors;
using cuda::sum_columns;
using cuda::WarpRow;

constexpr int kThreads = cuda::kRowThreads;
constexpr int kWarps = cuda::kRowWarps;
constexpr int kBlocksPerUnit = 3;  // blocks per multiprocessor, with up to 80 registers

enum class Norm : std::uint8_t { kWeighted, kModulated, kLayer };

template <typename T>
struct NormParams {
  const T* g_x;           // [rows, width]
  const float* g_weight;  // [width], for kWeighted
  const T* g_scale;       // [width], for the others
  const T* g_shift;       // [width], for kLayer
  T* g_out;               // [rows, width]
  std::int64_t rows;
  int width;
  float eps;
};

template <Norm kNorm, typename T>
__device__ float multiplier(const NormParams<T>& params, int column) {
  if constexpr (kNorm == Norm::kWeighted) {
    return params.g_weight[column];
  } else {
    return 1.0F + static_cast<float>(params.g_scale[column]);
  }
}

template <typename T, Norm kNorm>
__global__ void __launch_bounds__(kThreads, kBlocksPerUnit) norm_kernel(NormParams<T> params) {
  constexpr int kSize = kVectorSize<T>;
  extern __shared__ float4 s_memory[];
  const int lane = threadIdx.x % 32;
  const int num_vectors = params.width / kSize;
  const SharedVectors<T> multipliers{s_memory, num_vectors};
  const SharedVectors<T> shifts{s_memory + params.width / 4, num_vectors};
  for (int column = threadIdx.x; column < params.width; column += kThreads) {
    multipliers.at(column) = multiplier<kNorm>(params, column);
    if constexpr (kNorm == Norm::kLayer) {
      shifts.at(column) = static_cast<float>(params.g_shift[column]);
    }
  }
  __syncthreads();
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kWarps;
  for (std::int64_t row_idx = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
       row_idx < params.rows; row_idx += stride) {
    WarpRow<T> row;
    row.load(params.g_x + row_idx * params.width, lane, num_vectors);
    const auto width = static_cast<float>(params.width);
    float mean = 0.0F;
    float squares = 0.0F;
    if constexpr (kNorm == Norm::kLayer) {
#pragma unroll
      for (int i = 0; i < kMaxVectors; ++i) {
        float values[kSize];
        cuda::unpack(row.vectors[i], values);
#pragma unroll
        for (float value : values) mean += value;
      }
      mean = cuda::sum_over_lanes(mean) / width;
#pragma unroll
      for (int i = 0; i < kMaxVectors; ++i) {
        float values[kSize];
        cuda::unpack(row.vectors[i], values);
        if (i * 32 + lane >= num_vectors) break;
#pragma unroll
        for (float value : values) squares += (value - mean) * (value - mean);
      }
      squares = cuda::sum_over_lanes(squares);
    } else {
      squares = row.sum_squares();
    }
    const float factor = 1.0F / sqrtf(squares / width + params.eps);
    T* g_out = params.g_out + row_idx * params.width;
#pragma unroll
    for (int i = 0; i < kMaxVectors; ++i) {
      const int vector_idx = i * 32 + lane;
      if (vector_idx >= num_vectors) break;
      float values[kSize];
      float scale[kSize];
      cuda::unpack(row.vectors[i], values);
      multipliers.load(vector_idx, scale);
#pragma unroll
      for (int j = 0; j < kSize; ++j) values[j] = (values[j] - mean) * factor * scale[j];
      if constexpr (kNorm == Norm::kLayer) {
        shifts.load(vector_idx, scale);
#pragma unroll
        for (int j = 0; j < kSize; ++j) values[j] += scale[j];
      }
      cuda::store_vector(g_out, vector_idx, values);
    }
  }
}

// Any width: a warp reads its row two or three times.
template <typename T, Norm kNorm>
__global__ void __launch_bounds__(kThreads) norm_any_kernel(NormParams<T> params) {
  const std::int64_t row_idx = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row_idx >= params.rows) return;
  const T* g_row = params.g_x + row_idx * params.width;
  T* g_out = params.g_out + row_idx * params.width;
  const auto width = static_cast<float>(params.width);
  float mean = 0.0F;
  if constexpr (kNorm == Norm::kLayer) {
    mean = sum_columns(params.width, [&](int i) { return static_cast<float>(g_row[i]); }) / width;
  }
  const float squares = sum_columns(params.width, [&](int i) {
    const float value = static_cast<float>(g_row[i]) - mean;
    return value * value;
  });
  const float factor = 1.0F / sqrtf(squares / width + params.eps);
  for (int i = threadIdx.x % 32; i < params.width; i += 32) {
    float value = (static_cast<float>(g_row[i]) - mean) * factor * multiplier<kNorm>(params, i);
    if constexpr (kNorm == Norm::kLayer) value += static_cast<float>(params.g_shift[i]);
    g_out[i] = static_cast<T>(value);
  }
}

template <typename T, Norm kNorm>
void normalise(cudaStream_t stream, const NormParams<T>& params, int num_units) {
  const unsigned num_blocks = cuda::blocks_of(params.rows);
  if (!cuda::fits_warp<T>(params.width, {params.g_x, params.g_out})) {
    norm_any_kernel<T, kNorm><<<num_blocks, kThreads, 0, stream>>>(params);
    return;
  }
  const std::size_t shared_bytes =
      static_cast<std::size_t>(params.width) * sizeof(float) * (kNorm == Norm::kLayer ? 2 : 1);
  norm_kernel<T, kNorm><<<std::min(num_blocks, static_cast<unsigned>(num_units * kBlocksPerUnit)),
                          kThreads, shared_bytes, stream>>>(params);
}

template <typename T>
NormParams<T> norm_params(const TensorView& x, float eps, const TensorView& out) {
  return {.g_x = cuda::data_of<const T>(x),
          .g_weight = nullptr,
          .g_scale = nullptr,
          .g_shift = nullptr,
          .g_out = cuda::data_of<T>(out),
          .rows = x.dim(0),
          .width = static_cast<int>(x.dim(1)),
          .eps = eps};
}

}  // namespace

void CudaBackend::do_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                              const TensorView& out) {
  if (x.num_elements() == 0) return;
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    NormParams<T> params = norm_params<T>(x, eps, out);
    params.g_weight = cuda::data_of<const float>(weight);
    normalise<T, Norm::kWeighted>(stream_, params, properties_.multiProcessorCount);
  });
  cuda::check_launch("rms_norm");
}

void CudaBackend::do_norm_modulate(const TensorView& x, const TensorView& scale, float eps,
                                   const TensorView& out) {
  if (x.num_elements() == 0) return;
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    NormParams<T> params = norm_params<T>(x, eps, out);
    params.g_scale = cuda::data_of<const T>(scale);
    normalise<T, Norm::kModulated>(stream_, params, properties_.multiProcessorCount);
  });
  cuda::check_launch("norm_modulate");
}

void CudaBackend::do_layer_norm_modulate(const TensorView& x, const TensorView& shift,
                                         const TensorView& scale, float eps,
                                         const TensorView& out) {
  if (x.num_elements() == 0) return;
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    NormParams<T> params = norm_params<T>(x, eps, out);
    params.g_scale = cuda::data_of<const T>(scale);
    params.g_shift = cuda::data_of<const T>(shift);
    normalise<T, Norm::kLayer>(stream_, params, properties_.multiProcessorCount);
  });
  cuda::check_launch("layer_norm_modulate");
}

}  // namespace mochi
