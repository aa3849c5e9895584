// Addition of a branch's normalised result to the residual stream, and the norm that follows.
#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/common/quantise.cuh"
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/quantised.cuh"

namespace mochi::cuda {
namespace {

constexpr int kThreads = kRowThreads;
constexpr int kWarps = kRowWarps;
constexpr int kBlocksPerUnit = 2;  // blocks per multiprocessor, with up to 128 registers

template <typename T>
struct ResidualParams {
  const T* g_r;          // [rows, width]
  const T* g_gate;       // [width]
  const float* g_bias;   // [width], or null
  T* g_x;                // [rows, width]
  const T* g_scale;      // [width] scale of the norm that follows; null without it
  T* g_next;             // [rows, width] its result; null without it or if that is quantised:
  std::int8_t* g_codes;  // [rows, width]
  float* g_scales;       // [rows]
  std::int64_t rows;
  int width;
  float eps;
};

// The norm that follows uses the sum as it is stored, rounded to T, so its bits equal those of a
// separate operation. x is read after r's norm is known, a few vectors at a time, and then reuses
// r's registers.
enum class Next : std::uint8_t { kNone, kDense, kQuantised };

template <typename T, bool kHasBias, Next kNext>
__global__ void __launch_bounds__(kThreads, kBlocksPerUnit)
    gated_residual_kernel(ResidualParams<T> params) {
  constexpr int kSize = kVectorSize<T>;
  constexpr int kBatch = 4;
  constexpr bool kHasNext = kNext != Next::kNone;
  static_assert(kMaxVectors % kBatch == 0);
  extern __shared__ float4 s_memory[];
  const int lane = threadIdx.x % 32;
  const int num_vectors = params.width / kSize;
  const SharedVectors<T> gates{s_memory, num_vectors};
  const SharedVectors<T> biases{s_memory + params.width / 4, num_vectors};
  const SharedVectors<T> scales{s_memory + params.width / 4 * (kHasBias ? 2 : 1), num_vectors};
  for (int column = threadIdx.x; column < params.width; column += kThreads) {
    gates.at(column) = tanhf(static_cast<float>(params.g_gate[column]));
    if constexpr (kHasBias) biases.at(column) = params.g_bias[column];
    if constexpr (kHasNext) {
      scales.at(column) = 1.0F + static_cast<float>(params.g_scale[column]);
    }
  }
  __syncthreads();
  const auto width = static_cast<float>(params.width);
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kWarps;
  for (std::int64_t row_idx = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
       row_idx < params.rows; row_idx += stride) {
    auto* g_x = reinterpret_cast<uint4*>(params.g_x + row_idx * params.width);
    WarpRow<T> row;
    row.load(params.g_r + row_idx * params.width, lane, num_vectors);
    const auto get_r = [&](int i, float(&values)[kSize]) {
      unpack(row.vectors[i], values);
      if constexpr (kHasBias) {
        float bias[kSize];
        biases.load(i * 32 + lane, bias);
#pragma unroll
        for (int j = 0; j < kSize; ++j) values[j] += bias[j];
      }
    };
    float squares = 0.0F;
#pragma unroll
    for (int i = 0; i < kMaxVectors; ++i) {
      if (i * 32 + lane >= num_vectors) break;
      float values[kSize];
      get_r(i, values);
#pragma unroll
      for (float value : values) squares += value * value;
    }
    const float factor = 1.0F / sqrtf(sum_over_lanes(squares) / width + params.eps);
    float next_squares = 0.0F;
#pragma unroll
    for (int first = 0; first < kMaxVectors; first += kBatch) {
      uint4 x[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int vector_idx = (first + i) * 32 + lane;
        if (vector_idx < num_vectors) x[i] = g_x[vector_idx];
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int vector_idx = (first + i) * 32 + lane;
        if (vector_idx >= num_vectors) break;
        float values[kSize];
        float sums[kSize];
        float gate[kSize];
        get_r(first + i, values);
        unpack(x[i], sums);
        gates.load(vector_idx, gate);
#pragma unroll
        for (int j = 0; j < kSize; ++j) sums[j] += values[j] * factor * gate[j];
        row.vectors[first + i] = pack(sums);
        g_x[vector_idx] = row.vectors[first + i];
        if constexpr (kHasNext) {
          unpack(row.vectors[first + i], sums);
#pragma unroll
          for (float sum : sums) next_squares += sum * sum;
        }
      }
    }
    if constexpr (kHasNext) {
      const float next_factor = 1.0F / sqrtf(sum_over_lanes(next_squares) / width + params.eps);
      T* g_next = params.g_next + row_idx * params.width;
#pragma unroll
      for (int i = 0; i < kMaxVectors; ++i) {
        if (i * 32 + lane >= num_vectors) break;
        float values[kSize];
        float scale[kSize];
        unpack(row.vectors[i], values);
        scales.load(i * 32 + lane, scale);
#pragma unroll
        for (int j = 0; j < kSize; ++j) values[j] = values[j] * next_factor * scale[j];
        if constexpr (kNext == Next::kQuantised) {
          row.vectors[i] = pack(values);
        } else {
          store_vector(g_next, i * 32 + lane, values);
        }
      }
      if constexpr (kNext == Next::kQuantised) {
        quantise(row, lane, num_vectors, params.g_codes + row_idx * params.width,
                 params.g_scales + row_idx);
      }
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) gated_residual_any_kernel(ResidualParams<T> params) {
  const std::int64_t row_idx = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row_idx >= params.rows) return;
  const T* g_r = params.g_r + row_idx * params.width;
  T* g_x = params.g_x + row_idx * params.width;
  const auto get_r = [&](int i) {
    const float bias = params.g_bias != nullptr ? params.g_bias[i] : 0.0F;
    return static_cast<float>(g_r[i]) + bias;
  };
  const auto width = static_cast<float>(params.width);
  const float squares = sum_columns(params.width, [&](int i) { return get_r(i) * get_r(i); });
  const float factor = 1.0F / sqrtf(squares / width + params.eps);
  const float next_squares = sum_columns(params.width, [&](int i) {
    const float gate = tanhf(static_cast<float>(params.g_gate[i]));
    g_x[i] = static_cast<T>(static_cast<float>(g_x[i]) + get_r(i) * factor * gate);
    const float stored = static_cast<float>(g_x[i]);
    return stored * stored;
  });
  if (params.g_next == nullptr) return;
  const float next_factor = 1.0F / sqrtf(next_squares / width + params.eps);
  // The elements that this lane has stored.
  for (int i = threadIdx.x % 32; i < params.width; i += 32) {
    const float scale = 1.0F + static_cast<float>(params.g_scale[i]);
    params.g_next[row_idx * params.width + i] =
        static_cast<T>(static_cast<float>(g_x[i]) * next_factor * scale);
  }
}

template <typename T, bool kHasBias, Next kNext>
void add_residual(cudaStream_t stream, const ResidualParams<T>& params, int num_units) {
  constexpr int kNumVectors = 1 + (kHasBias ? 1 : 0) + (kNext != Next::kNone ? 1 : 0);
  const unsigned num_blocks =
      std::min(blocks_of(params.rows), static_cast<unsigned>(num_units * kBlocksPerUnit));
  const std::size_t shared_bytes =
      static_cast<std::size_t>(params.width) * sizeof(float) * kNumVectors;
  gated_residual_kernel<T, kHasBias, kNext><<<num_blocks, kThreads, shared_bytes, stream>>>(params);
}

template <typename T, Next kNext>
void add_with_bias(cudaStream_t stream, const ResidualParams<T>& params, int num_units) {
  params.g_bias == nullptr ? add_residual<T, false, kNext>(stream, params, num_units)
                           : add_residual<T, true, kNext>(stream, params, num_units);
}

template <typename T>
void add(cudaStream_t stream, const ResidualParams<T>& params, int num_units) {
  if (!fits_warp<T>(params.width, {params.g_r, params.g_x, params.g_next})) {
    gated_residual_any_kernel<T><<<blocks_of(params.rows), kThreads, 0, stream>>>(params);
  } else if (params.g_next == nullptr) {
    add_with_bias<T, Next::kNone>(stream, params, num_units);
  } else {
    add_with_bias<T, Next::kDense>(stream, params, num_units);
  }
}

}  // namespace

void run(Gpu& gpu, const ops::GatedResidual& op) {
  if (op.x.num_elements() == 0) return;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    ResidualParams<T> params{.g_r = data_of<const T>(op.r),
                             .g_gate = data_of<const T>(op.gate),
                             .g_bias = data_of<const float>(op.bias),
                             .g_x = data_of<T>(op.x),
                             .g_scale = data_of<const T>(op.next_scale),
                             .g_next = nullptr,
                             .g_codes = nullptr,
                             .g_scales = nullptr,
                             .rows = op.x.dim(0),
                             .width = static_cast<int>(op.x.dim(1)),
                             .eps = op.eps};
    const int num_units = gpu.num_multiprocessors();
    if (!op.next_out) return add(gpu.stream(), params, num_units);
    if (op.next_out.is_quantised()) {
      params.g_codes = data_of<std::int8_t>(op.next_out.values());
      params.g_scales = data_of<float>(op.next_out.scales());
      if (fits_warp<T>(params.width, {params.g_r, params.g_x, params.g_codes})) {
        return add_with_bias<T, Next::kQuantised>(gpu.stream(), params, num_units);
      }
    }
    write_rows(gpu, op.next_out, [&](const TensorView& next) {
      params.g_next = data_of<T>(next);
      add(gpu.stream(), params, num_units);
    });
  });
  check_launch("gated_residual");
}
template void compute(Gpu&, const ops::GatedResidual&);

}  // namespace mochi::cuda
