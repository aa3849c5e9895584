// Norms over rows, with what is done to the normed row: modulation, or adding it to another row.
// In the usual case a warp holds its row in registers, so that every byte is read once, and the
// block holds what all rows share, as fp32, in shared memory. Any other width takes the plain way.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/dispatch.cuh"
#include "backend/cuda/kernels/vector.cuh"

namespace mochi {
namespace {

using cuda::kVectorSize;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kMaxVectors = 12;    // of a row in one lane's registers: widths up to 3072 in bf16
constexpr int kBlocksPerUnit = 2;  // resident on a multiprocessor: up to 128 registers

enum class Norm : std::uint8_t { kWeighted, kModulated, kLayer };

template <typename T>
struct NormParams {
  const T* g_x;           // [rows, width]
  const float* g_weight;  // [width] of kWeighted
  const T* g_scale;       // [width] of the others
  const T* g_shift;       // [width] of kLayer
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

// [width] f32 in shared memory, as num_vectors vectors of T's size. Consecutive vectors are apart
// by 16 bytes, whatever their size, so that a warp reads them without bank conflicts.
template <typename T>
struct SharedVectors {
  static constexpr int kParts = kVectorSize<T> / 4;

  float4* s_parts;
  int num_vectors;

  __device__ float& at(int column) const {
    const int vector_idx = column / kVectorSize<T>;
    const int part = column % kVectorSize<T> / 4;
    return reinterpret_cast<float*>(s_parts + part * num_vectors + vector_idx)[column % 4];
  }
  __device__ void load(int vector_idx, float (&values)[kVectorSize<T>]) const {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const float4 loaded = s_parts[part * num_vectors + vector_idx];
      values[4 * part] = loaded.x;
      values[4 * part + 1] = loaded.y;
      values[4 * part + 2] = loaded.z;
      values[4 * part + 3] = loaded.w;
    }
  }
};

// A row in the registers of a warp, vector i·32 + lane in vectors[i]. Beyond its end are zeros.
template <typename T>
struct WarpRow {
  uint4 vectors[kMaxVectors];

  __device__ void load(const T* g_row, int lane, int num_vectors) {
#pragma unroll
    for (int i = 0; i < kMaxVectors; ++i) {
      vectors[i] = {0, 0, 0, 0};
      if (i * 32 + lane < num_vectors) vectors[i] = cuda::load_vector(g_row, i * 32 + lane);
    }
  }
  // Σ (x − mean)² over the width, in all lanes.
  __device__ float sum_squares() const {
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kMaxVectors; ++i) {
      float values[kVectorSize<T>];
      cuda::unpack(vectors[i], values);
#pragma unroll
      for (float value : values) sum += value * value;
    }
    return cuda::sum_over_lanes(sum);
  }
};

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

// Calls fn(column) for every column, shared out over a warp, and returns the sum of its results.
template <typename Fn>
__device__ float sum_columns(int width, Fn fn) {
  float sum = 0.0F;
  for (int column = threadIdx.x % 32; column < width; column += 32) sum += fn(column);
  return cuda::sum_over_lanes(sum);
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

template <typename T>
struct ResidualParams {
  const T* g_r;     // [rows, width]
  const T* g_gate;  // [width]
  T* g_x;           // [rows, width]
  std::int64_t rows;
  int width;
  float eps;
};

template <typename T>
__global__ void __launch_bounds__(kThreads, kBlocksPerUnit)
    gated_residual_kernel(ResidualParams<T> params) {
  constexpr int kSize = kVectorSize<T>;
  extern __shared__ float4 s_memory[];
  const int lane = threadIdx.x % 32;
  const int num_vectors = params.width / kSize;
  const SharedVectors<T> gates{s_memory, num_vectors};
  for (int column = threadIdx.x; column < params.width; column += kThreads) {
    gates.at(column) = tanhf(static_cast<float>(params.g_gate[column]));
  }
  __syncthreads();
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kWarps;
  for (std::int64_t row_idx = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
       row_idx < params.rows; row_idx += stride) {
    T* g_x = params.g_x + row_idx * params.width;
    WarpRow<T> r;
    WarpRow<T> x;
    r.load(params.g_r + row_idx * params.width, lane, num_vectors);
    x.load(g_x, lane, num_vectors);
    const float factor =
        1.0F / sqrtf(r.sum_squares() / static_cast<float>(params.width) + params.eps);
#pragma unroll
    for (int i = 0; i < kMaxVectors; ++i) {
      const int vector_idx = i * 32 + lane;
      if (vector_idx >= num_vectors) break;
      float values[kSize];
      float sums[kSize];
      float gate[kSize];
      cuda::unpack(r.vectors[i], values);
      cuda::unpack(x.vectors[i], sums);
      gates.load(vector_idx, gate);
#pragma unroll
      for (int j = 0; j < kSize; ++j) sums[j] += values[j] * factor * gate[j];
      cuda::store_vector(g_x, vector_idx, sums);
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) gated_residual_any_kernel(ResidualParams<T> params) {
  const std::int64_t row_idx = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row_idx >= params.rows) return;
  const T* g_r = params.g_r + row_idx * params.width;
  T* g_x = params.g_x + row_idx * params.width;
  const float squares = sum_columns(
      params.width, [&](int i) { return static_cast<float>(g_r[i]) * static_cast<float>(g_r[i]); });
  const float factor = 1.0F / sqrtf(squares / static_cast<float>(params.width) + params.eps);
  for (int i = threadIdx.x % 32; i < params.width; i += 32) {
    const float gate = tanhf(static_cast<float>(params.g_gate[i]));
    g_x[i] =
        static_cast<T>(static_cast<float>(g_x[i]) + static_cast<float>(g_r[i]) * factor * gate);
  }
}

// Whether a warp can hold such rows.
template <typename T>
bool fits_warp(std::int64_t width, std::initializer_list<const void*> pointers) {
  return cuda::has_vector_rows<T>(width, pointers) && width <= kMaxVectors * 32 * kVectorSize<T>;
}

unsigned blocks_of(std::int64_t rows) {
  return static_cast<unsigned>((rows + kWarps - 1) / kWarps);
}

template <typename T, Norm kNorm>
void normalise(cudaStream_t stream, const NormParams<T>& params, int num_units) {
  const unsigned num_blocks = blocks_of(params.rows);
  if (!fits_warp<T>(params.width, {params.g_x, params.g_out})) {
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

void CudaBackend::do_gated_residual(const TensorView& r, const TensorView& gate, float eps,
                                    const TensorView& x) {
  if (x.num_elements() == 0) return;
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    const ResidualParams<T> params{.g_r = cuda::data_of<const T>(r),
                                   .g_gate = cuda::data_of<const T>(gate),
                                   .g_x = cuda::data_of<T>(x),
                                   .rows = x.dim(0),
                                   .width = static_cast<int>(x.dim(1)),
                                   .eps = eps};
    const unsigned num_blocks = blocks_of(params.rows);
    if (fits_warp<T>(params.width, {params.g_r, params.g_x})) {
      const auto num_resident =
          static_cast<unsigned>(properties_.multiProcessorCount * kBlocksPerUnit);
      gated_residual_kernel<T>
          <<<std::min(num_blocks, num_resident), kThreads,
             static_cast<std::size_t>(params.width) * sizeof(float), stream_>>>(params);
    } else {
      gated_residual_any_kernel<T><<<num_blocks, kThreads, 0, stream_>>>(params);
    }
  });
  cuda::check_launch("gated_residual");
}

}  // namespace mochi
