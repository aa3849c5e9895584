// Norms over rows, with a weight or a modulation.
#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/common/quantise.cuh"
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/quantised.cuh"

namespace mochi::cuda {
namespace {

constexpr int kThreads = kRowThreads;
constexpr int kWarps = kRowWarps;
constexpr int kBlocksPerUnit = 3;  // blocks per multiprocessor, with up to 80 registers

enum class Norm : std::uint8_t { kWeighted, kModulated, kLayer };

template <typename T>
struct NormParams {
  const T* g_x;           // [rows, width]
  const float* g_weight;  // [width], for kWeighted
  const T* g_scale;       // [width], for the others
  const T* g_shift;       // [width], for kLayer
  T* g_out;               // [rows, width]; null if the result is quantised
  std::int8_t* g_codes;   // [rows, width], and
  float* g_scales;        // [rows]; null if it is not
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

template <typename T, Norm kNorm, bool kIsQuantised>
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
        unpack(row.vectors[i], values);
#pragma unroll
        for (float value : values) mean += value;
      }
      mean = sum_over_lanes(mean) / width;
#pragma unroll
      for (int i = 0; i < kMaxVectors; ++i) {
        float values[kSize];
        unpack(row.vectors[i], values);
        if (i * 32 + lane >= num_vectors) break;
#pragma unroll
        for (float value : values) squares += (value - mean) * (value - mean);
      }
      squares = sum_over_lanes(squares);
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
      unpack(row.vectors[i], values);
      multipliers.load(vector_idx, scale);
#pragma unroll
      for (int j = 0; j < kSize; ++j) values[j] = (values[j] - mean) * factor * scale[j];
      if constexpr (kNorm == Norm::kLayer) {
        shifts.load(vector_idx, scale);
#pragma unroll
        for (int j = 0; j < kSize; ++j) values[j] += scale[j];
      }
      if constexpr (kIsQuantised) {
        row.vectors[i] = pack(values);
      } else {
        store_vector(g_out, vector_idx, values);
      }
    }
    if constexpr (kIsQuantised) {
      quantise(row, lane, num_vectors, params.g_codes + row_idx * params.width,
               params.g_scales + row_idx);
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

template <typename T, Norm kNorm, bool kIsQuantised>
void launch_norm(cudaStream_t stream, const NormParams<T>& params, int num_units) {
  const unsigned num_blocks =
      std::min(blocks_of(params.rows), static_cast<unsigned>(num_units * kBlocksPerUnit));
  const std::size_t shared_bytes =
      static_cast<std::size_t>(params.width) * sizeof(float) * (kNorm == Norm::kLayer ? 2 : 1);
  norm_kernel<T, kNorm, kIsQuantised><<<num_blocks, kThreads, shared_bytes, stream>>>(params);
}

template <typename T, Norm kNorm>
void normalise(cudaStream_t stream, const NormParams<T>& params, int num_units) {
  if (!fits_warp<T>(params.width, {params.g_x, params.g_out})) {
    norm_any_kernel<T, kNorm><<<blocks_of(params.rows), kThreads, 0, stream>>>(params);
    return;
  }
  launch_norm<T, kNorm, false>(stream, params, num_units);
}

template <typename T>
NormParams<T> norm_params(const TensorView& x, float eps, const TensorView& out) {
  return {.g_x = data_of<const T>(x),
          .g_weight = nullptr,
          .g_scale = nullptr,
          .g_shift = nullptr,
          .g_out = data_of<T>(out),
          .g_codes = nullptr,
          .g_scales = nullptr,
          .rows = x.dim(0),
          .width = static_cast<int>(x.dim(1)),
          .eps = eps};
}

}  // namespace

void run(Gpu& gpu, const ops::RmsNorm& op) {
  if (op.x.num_elements() == 0) return;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    NormParams<T> params = norm_params<T>(op.x, op.eps, op.out);
    params.g_weight = data_of<const float>(op.weight);
    normalise<T, Norm::kWeighted>(gpu.stream(), params, gpu.num_multiprocessors());
  });
  check_launch("rms_norm");
}
template void compute(Gpu&, const ops::RmsNorm&);

void run(Gpu& gpu, const ops::NormModulate& op) {
  if (op.x.num_elements() == 0) return;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    NormParams<T> params = norm_params<T>(op.x, op.eps, {});
    params.g_scale = data_of<const T>(op.scale);
    if (op.out.is_quantised()) {
      params.g_codes = data_of<std::int8_t>(op.out.values());
      params.g_scales = data_of<float>(op.out.scales());
      if (fits_warp<T>(params.width, {params.g_x, params.g_codes})) {
        return launch_norm<T, Norm::kModulated, true>(gpu.stream(), params,
                                                      gpu.num_multiprocessors());
      }
    }
    write_rows(gpu, op.out, [&](const TensorView& out) {
      params.g_out = data_of<T>(out);
      normalise<T, Norm::kModulated>(gpu.stream(), params, gpu.num_multiprocessors());
    });
  });
  check_launch("norm_modulate");
}
template void compute(Gpu&, const ops::NormModulate&);

void run(Gpu& gpu, const ops::LayerNormModulate& op) {
  if (op.x.num_elements() == 0) return;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    NormParams<T> params = norm_params<T>(op.x, op.eps, op.out);
    params.g_scale = data_of<const T>(op.scale);
    params.g_shift = data_of<const T>(op.shift);
    normalise<T, Norm::kLayer>(gpu.stream(), params, gpu.num_multiprocessors());
  });
  check_launch("layer_norm_modulate");
}
template void compute(Gpu&, const ops::LayerNormModulate&);

}  // namespace mochi::cuda
