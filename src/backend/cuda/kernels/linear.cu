// Matrix products: cuBLASLt's, and ours for what it is not good at: one row, odd sizes, and what
// follows the product (its epilogues take no F32 bias to BF16 results).
#include "backend/cuda/cublaslt.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/activation.cuh"
#include "backend/cuda/kernels/dispatch.cuh"
#include "backend/cuda/kernels/vector.cuh"

namespace mochi {
namespace {

using cuda::kVectorSize;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

struct Epilogue {
  const float* g_bias;  // [n], or null
  Activation activation;
  bool accumulate;

  template <typename T>
  __device__ T apply(float sum, std::int64_t column, T former) const {
    if (g_bias != nullptr) sum += g_bias[column];
    if (accumulate) sum += static_cast<float>(former);
    return static_cast<T>(cuda::activate<T>(activation, sum));
  }
};

// One row: out [n] = x [k] · weight [n, k]ᵀ, a warp for each output. Reading the weight once is all
// there is to it, so every thread keeps several loads in flight.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    multiply_row_kernel(const T* g_x, const T* g_weight, T* g_out, std::int64_t n, std::int64_t k,
                        Epilogue epilogue) {
  constexpr int kSize = kVectorSize<T>;
  constexpr int kBatch = 6;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (column >= n) return;
  const int lane = threadIdx.x % 32;
  const T* g_row = g_weight + column * k;
  const std::int64_t num_vectors = k / kSize;
  float sum = 0.0F;
  for (std::int64_t first = lane; first < num_vectors; first += 32 * kBatch) {
    uint4 weights[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i * 32 < num_vectors) weights[i] = cuda::load_vector_once(g_row, first + i * 32);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i * 32 >= num_vectors) break;
      float w[kSize];
      float x[kSize];
      cuda::unpack(weights[i], w);
      cuda::unpack(cuda::load_vector(g_x, first + i * 32), x);
#pragma unroll
      for (int j = 0; j < kSize; ++j) sum += w[j] * x[j];
    }
  }
  sum = cuda::sum_over_lanes(sum);
  if (lane == 0) g_out[column] = epilogue.apply(sum, column, g_out[column]);
}

constexpr int kMaxNarrow = 4;  // outputs

// Few outputs of many rows, which are to be read at full speed: 16 lanes share kRows rows.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    multiply_narrow_kernel(const T* g_x, const T* g_weight, T* g_out, std::int64_t rows, int n,
                           std::int64_t k, Epilogue epilogue) {
  constexpr int kSize = kVectorSize<T>;
  constexpr int kLanes = 16;
  constexpr int kRows = 4;
  const int lane = threadIdx.x % kLanes;
  const std::int64_t first =
      (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanes * kRows;
  float sums[kRows][kMaxNarrow] = {};
  for (std::int64_t i = lane; i < k / kSize; i += kLanes) {
    float x[kRows][kSize];
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      // Past the end the last row stands in: all lanes take part in the sums.
      const std::int64_t row_idx = first + row < rows ? first + row : rows - 1;
      cuda::unpack(cuda::load_vector_once(g_x + row_idx * k, i), x[row]);
    }
#pragma unroll
    for (int column = 0; column < kMaxNarrow; ++column) {
      if (column >= n) break;
      float w[kSize];
      cuda::unpack(cuda::load_vector(g_weight + column * k, i), w);
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
#pragma unroll
        for (int j = 0; j < kSize; ++j) sums[row][column] += x[row][j] * w[j];
      }
    }
  }
#pragma unroll
  for (int column = 0; column < kMaxNarrow; ++column) {
    if (column >= n) break;
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const float sum = cuda::sum_over_lanes<kLanes>(sums[row][column]);
      if (lane != row || first + row >= rows) continue;
      T& out = g_out[(first + row) * n + column];
      out = epilogue.apply(sum, column, out);
    }
  }
}

// Any sizes, tile by tile of out; not fast.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    multiply_any_kernel(const T* g_x, const T* g_weight, T* g_out, std::int64_t rows,
                        std::int64_t n, std::int64_t k, Epilogue epilogue) {
  constexpr int kTile = 16;
  __shared__ float s_x[kTile][kTile + 1];
  __shared__ float s_weight[kTile][kTile + 1];
  const int thread_row = threadIdx.x / kTile;
  const int thread_column = threadIdx.x % kTile;
  const std::int64_t column_tiles = (n + kTile - 1) / kTile;
  const std::int64_t first_row = blockIdx.x / column_tiles * kTile;
  const std::int64_t first_column = blockIdx.x % column_tiles * kTile;
  float sum = 0.0F;
  for (std::int64_t first = 0; first < k; first += kTile) {
    const std::int64_t i = first + thread_column;
    const std::int64_t x_row = first_row + thread_row;
    const std::int64_t weight_row = first_column + thread_row;
    s_x[thread_row][thread_column] =
        i < k && x_row < rows ? static_cast<float>(g_x[x_row * k + i]) : 0.0F;
    s_weight[thread_row][thread_column] =
        i < k && weight_row < n ? static_cast<float>(g_weight[weight_row * k + i]) : 0.0F;
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kTile; ++j) sum += s_x[thread_row][j] * s_weight[thread_column][j];
    __syncthreads();
  }
  const std::int64_t row = first_row + thread_row;
  const std::int64_t column = first_column + thread_column;
  if (row >= rows || column >= n) return;
  T& out = g_out[row * n + column];
  out = epilogue.apply(sum, column, out);
}

// out [rows, n] = act(out + bias), a block for each row.
template <typename T, bool kIsVector>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(T* g_out, std::int64_t n, Epilogue epilogue) {
  constexpr int kSize = kIsVector ? kVectorSize<T> : 1;
  T* g_row = g_out + blockIdx.x * n;
#pragma unroll 2
  for (std::int64_t i = threadIdx.x; i < n / kSize; i += kThreads) {
    if constexpr (kIsVector) {
      float values[kSize];
      cuda::unpack(cuda::load_vector(g_row, i), values);
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        if (epilogue.g_bias != nullptr) values[j] += epilogue.g_bias[i * kSize + j];
        values[j] = cuda::activate<T>(epilogue.activation, values[j]);
      }
      cuda::store_vector(g_row, i, values);
    } else {
      g_row[i] = epilogue.apply(static_cast<float>(g_row[i]), i, g_row[i]);
    }
  }
}

template <typename T>
void finish(const TensorView& out, const Epilogue& epilogue, cudaStream_t stream) {
  const std::int64_t n = out.dim(1);
  T* g_out = cuda::data_of<T>(out);
  const auto num_blocks = static_cast<unsigned>(out.dim(0));
  if (cuda::has_vector_rows<T>(n, {g_out})) {
    finish_kernel<T, true><<<num_blocks, kThreads, 0, stream>>>(g_out, n, epilogue);
  } else {
    finish_kernel<T, false><<<num_blocks, kThreads, 0, stream>>>(g_out, n, epilogue);
  }
}

}  // namespace

void CudaBackend::do_linear(const TensorView& x, const TensorView& weight, const TensorView& bias,
                            const TensorView& out, const LinearOptions& options) {
  const std::int64_t rows = x.dim(0);
  const std::int64_t k = x.dim(1);
  const std::int64_t n = weight.dim(0);
  if (out.num_elements() == 0) return;
  Epilogue epilogue{bias ? cuda::data_of<const float>(bias) : nullptr, options.activation,
                    options.accumulate};
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    const T* g_x = cuda::data_of<const T>(x);
    const T* g_weight = cuda::data_of<const T>(weight);
    T* g_out = cuda::data_of<T>(out);
    if (rows == 1 && cuda::has_vector_rows<T>(k, {g_x, g_weight})) {
      const auto num_blocks = static_cast<unsigned>((n + kWarps - 1) / kWarps);
      multiply_row_kernel<T>
          <<<num_blocks, kThreads, 0, stream_>>>(g_x, g_weight, g_out, n, k, epilogue);
    } else if (n <= kMaxNarrow && cuda::has_vector_rows<T>(k, {g_x, g_weight})) {
      constexpr int kBlockRows = kThreads / 4;
      multiply_narrow_kernel<T>
          <<<static_cast<unsigned>((rows + kBlockRows - 1) / kBlockRows), kThreads, 0, stream_>>>(
              g_x, g_weight, g_out, rows, static_cast<int>(n), k, epilogue);
    } else if (k > 0 && cublaslt_->multiply(x, weight, out, options.accumulate, stream_)) {
      epilogue.accumulate = false;
      if (epilogue.g_bias != nullptr || epilogue.activation != Activation::kNone) {
        finish<T>(out, epilogue, stream_);
      }
    } else {
      const auto num_blocks = static_cast<unsigned>((rows + 15) / 16 * ((n + 15) / 16));
      multiply_any_kernel<T>
          <<<num_blocks, kThreads, 0, stream_>>>(g_x, g_weight, g_out, rows, n, k, epilogue);
    }
  });
  cuda::check_launch("linear");
}

}  // namespace mochi
