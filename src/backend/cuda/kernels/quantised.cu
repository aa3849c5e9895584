// Rows in I8, and products of them for sizes and GPUs without a kernel of their own.
#include "backend/cuda/common/activation.cuh"
#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/common/quantise.cuh"
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/quantised.cuh"
#include "backend/cuda/sm90/fused_linear.h"

namespace mochi::cuda {
namespace {

constexpr int kThreads = kRowThreads;
constexpr int kWarps = kRowWarps;

template <typename T>
struct QuantiseParams {
  const T* g_x;          // [rows, width]
  std::int8_t* g_codes;  // [rows, width]
  float* g_scales;       // [rows]
  std::int64_t rows;
  int width;
};

// A warp holds a row.
template <typename T>
__global__ void __launch_bounds__(kThreads) quantise_kernel(QuantiseParams<T> params) {
  const int lane = threadIdx.x % 32;
  const int num_vectors = params.width / kVectorSize<T>;
  const std::int64_t row_idx = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row_idx >= params.rows) return;
  WarpRow<T> row;
  row.load(params.g_x + row_idx * params.width, lane, num_vectors);
  quantise(row, lane, num_vectors, params.g_codes + row_idx * params.width,
           params.g_scales + row_idx);
}

// Any width: a warp reads its row twice.
template <typename T, bool kIsVector>
__global__ void __launch_bounds__(kThreads) quantise_any_kernel(QuantiseParams<T> params) {
  constexpr int kSize = kIsVector ? kVectorSize<T> : 1;
  const int lane = threadIdx.x % 32;
  const std::int64_t row_idx = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row_idx >= params.rows) return;
  const T* g_row = params.g_x + row_idx * params.width;
  std::int8_t* g_codes = params.g_codes + row_idx * params.width;
  const auto load = [&](int i, float(&values)[kSize]) {
    if constexpr (kIsVector) {
      unpack(load_vector(g_row, i), values);
    } else {
      values[0] = static_cast<float>(g_row[i]);
    }
  };
  std::uint32_t largest = 0;
#pragma unroll 4
  for (int i = lane; i < params.width / kSize; i += 32) {
    float values[kSize];
    load(i, values);
#pragma unroll
    for (float value : values) largest = max(largest, magnitude_bits(value));
  }
  const RowScale scale = RowScale::of(__reduce_max_sync(0xffffffffU, largest));
  if (lane == 0) params.g_scales[row_idx] = scale.scale;
#pragma unroll 4
  for (int i = lane; i < params.width / kSize; i += 32) {
    float values[kSize];
    load(i, values);
    if constexpr (kIsVector) {
      std::uint32_t words[kSize / 4] = {};
#pragma unroll
      for (int j = 0; j < kSize; ++j) words[j / 4] |= scale.code_of(values[j]) << (j % 4 * 8);
#pragma unroll
      for (int j = 0; j < kSize / 4; ++j) {
        reinterpret_cast<std::uint32_t*>(g_codes)[i * (kSize / 4) + j] = words[j];
      }
    } else {
      g_codes[i] = static_cast<std::int8_t>(scale.code_of(values[0]));
    }
  }
}

template <typename T>
void quantise_with(cudaStream_t stream, const QuantiseParams<T>& params) {
  const unsigned num_blocks = blocks_of(params.rows);
  if (fits_warp<T>(params.width, {params.g_x, params.g_codes})) {
    quantise_kernel<T><<<num_blocks, kThreads, 0, stream>>>(params);
  } else if (has_vector_rows<T>(params.width, {params.g_x, params.g_codes})) {
    quantise_any_kernel<T, true><<<num_blocks, kThreads, 0, stream>>>(params);
  } else {
    quantise_any_kernel<T, false><<<num_blocks, kThreads, 0, stream>>>(params);
  }
}

template <typename T>
struct I8Params {
  const std::int8_t* g_x;       // [rows, k]
  const std::int8_t* g_weight;  // [n, k]
  const float* g_x_scales;      // [rows]
  const float* g_weight_scales;
  const float* g_bias;  // [n], or null
  T* g_out;             // [rows, n]
  std::int64_t rows, n, k;
  Activation activation;
};

// Any sizes, one tile of out at a time; slow.
template <typename T>
__global__ void __launch_bounds__(256) multiply_i8_kernel(I8Params<T> p) {
  constexpr int kTile = 16;
  constexpr int kDepth = 64;
  __shared__ __align__(16) std::int8_t s_x[kTile][kDepth + 4];
  __shared__ __align__(16) std::int8_t s_weight[kTile][kDepth + 4];
  const int thread_row = threadIdx.x / kTile;
  const int thread_column = threadIdx.x % kTile;
  const std::int64_t column_tiles = (p.n + kTile - 1) / kTile;
  const std::int64_t first_row = blockIdx.x / column_tiles * kTile;
  const std::int64_t first_column = blockIdx.x % column_tiles * kTile;
  int sum = 0;
  for (std::int64_t first = 0; first < p.k; first += kDepth) {
#pragma unroll
    for (int part = 0; part < kDepth / kTile; ++part) {
      const int at = part * kTile + thread_column;
      const std::int64_t i = first + at;
      const std::int64_t x_row = first_row + thread_row;
      const std::int64_t weight_row = first_column + thread_row;
      s_x[thread_row][at] = i < p.k && x_row < p.rows ? p.g_x[x_row * p.k + i] : 0;
      s_weight[thread_row][at] = i < p.k && weight_row < p.n ? p.g_weight[weight_row * p.k + i] : 0;
    }
    __syncthreads();
    const auto* x_words = reinterpret_cast<const int*>(s_x[thread_row]);
    const auto* weight_words = reinterpret_cast<const int*>(s_weight[thread_column]);
#pragma unroll
    for (int j = 0; j < kDepth / 4; ++j) sum = __dp4a(x_words[j], weight_words[j], sum);
    __syncthreads();
  }
  const std::int64_t row = first_row + thread_row;
  const std::int64_t column = first_column + thread_column;
  if (row >= p.rows || column >= p.n) return;
  float value = static_cast<float>(sum) * (p.g_x_scales[row] * p.g_weight_scales[column]);
  if (p.g_bias != nullptr) value += p.g_bias[column];
  p.g_out[row * p.n + column] = static_cast<T>(activate<T>(p.activation, value));
}

}  // namespace

void launch_quantise(Gpu& gpu, const TensorView& x, const MatrixView& out) {
  if (x.num_elements() == 0) return;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    quantise_with<T>(gpu.stream(), {.g_x = data_of<const T>(x),
                                    .g_codes = data_of<std::int8_t>(out.values()),
                                    .g_scales = data_of<float>(out.scales()),
                                    .rows = x.dim(0),
                                    .width = static_cast<int>(x.dim(1))});
  });
  check_launch("quantise_rows");
}

void multiply_quantised(Gpu& gpu, const ops::Linear& op) {
  const bool is_plain = !op.bias && op.activation == Activation::kNone;
  const sm90::LinearParams params{.g_x = op.x.values().bytes(),
                                  .g_weight = op.weight.values().bytes(),
                                  .scales = scales_of(op.x, op.weight),
                                  .g_out = op.out.bytes(),
                                  .rows = op.x.dim(0),
                                  .n = op.out.dim(1),
                                  .k = op.x.dim(1)};
  if (is_plain && gpu.is_hopper() && gpu.activation_dtype() == DType::kBF16 &&
      sm90::suits_linear(params)) {
    return sm90::launch_linear(params, gpu.num_multiprocessors(), gpu.stream());
  }
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    const I8Params<T> any{.g_x = data_of<const std::int8_t>(op.x.values()),
                          .g_weight = data_of<const std::int8_t>(op.weight.values()),
                          .g_x_scales = params.scales.g_x,
                          .g_weight_scales = params.scales.g_weight,
                          .g_bias = data_of<const float>(op.bias),
                          .g_out = data_of<T>(op.out),
                          .rows = params.rows,
                          .n = params.n,
                          .k = params.k,
                          .activation = op.activation};
    const auto num_blocks = static_cast<unsigned>((any.rows + 15) / 16 * ((any.n + 15) / 16));
    multiply_i8_kernel<T><<<num_blocks, 256, 0, gpu.stream()>>>(any);
  });
  check_launch("linear");
}

sm90::LinearScales scales_of(const MatrixView& x, const MatrixView& weight) {
  if (!x.is_quantised()) return {};
  return {.g_x = data_of<const float>(x.scales()),
          .g_weight = data_of<const float>(weight.scales()),
          .rows = x.dim(0),
          .n = weight.dim(0)};
}

void run(Gpu& gpu, const ops::QuantiseRows& op) { launch_quantise(gpu, op.x, op.out); }
template void compute(Gpu&, const ops::QuantiseRows&);

}  // namespace mochi::cuda
