// Matmuls: by cuBLASLt, and by kernels of this file for cases it is slow at or does not support:
// one row, odd sizes, and epilogues (its own take no F32 bias for BF16 results).
#include <algorithm>

#include "backend/cuda/common/activation.cuh"
#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/common/vector.cuh"
#include "backend/cuda/cublaslt.h"
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/quantised.cuh"

namespace mochi::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

struct Epilogue {
  const float* g_bias;  // [n], or null
  Activation activation;
  bool accumulate;

  // T is the type in which the result will be stored.
  template <typename T>
  __device__ float finish(float sum, std::int64_t column, float former) const {
    if (g_bias != nullptr) sum += g_bias[column];
    if (accumulate) sum += former;
    return activate<T>(activation, sum);
  }
  template <typename T>
  __device__ T apply(float sum, std::int64_t column, T former) const {
    return static_cast<T>(finish<T>(sum, column, static_cast<float>(former)));
  }
};

// One row: out [n] = x [k] · weight [n, k]ᵀ, with a warp per output. The weight's bytes bound the
// time, so every thread keeps several loads in progress.
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
      if (first + i * 32 < num_vectors) weights[i] = load_vector_once(g_row, first + i * 32);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i * 32 >= num_vectors) break;
      float w[kSize];
      float x[kSize];
      unpack(weights[i], w);
      unpack(load_vector(g_x, first + i * 32), x);
#pragma unroll
      for (int j = 0; j < kSize; ++j) sum += w[j] * x[j];
    }
  }
  sum = sum_over_lanes(sum);
  if (lane == 0) g_out[column] = epilogue.apply(sum, column, g_out[column]);
}

constexpr int kMaxNarrow = 4;  // number of outputs

// Few outputs of many rows, which are read at full bandwidth: 16 lanes share kRows rows.
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
      // After the end, the last row is used again, because all lanes take part in the sums.
      const std::int64_t row_idx = first + row < rows ? first + row : rows - 1;
      unpack(load_vector_once(g_x + row_idx * k, i), x[row]);
    }
#pragma unroll
    for (int column = 0; column < kMaxNarrow; ++column) {
      if (column >= n) break;
      float w[kSize];
      unpack(load_vector(g_weight + column * k, i), w);
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
      const float sum = sum_over_lanes<kLanes>(sums[row][column]);
      if (lane != row || first + row >= rows) continue;
      T& out = g_out[(first + row) * n + column];
      out = epilogue.apply(sum, column, out);
    }
  }
}

// Any sizes, one tile of out at a time; slow.
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

// out [rows, n] = act(sums [rows, n] + bias), with a block per row. out may be the sums.
template <typename T, bool kIsVector>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const float* g_sums, T* g_out, std::int64_t n, Epilogue epilogue) {
  constexpr int kSize = kIsVector ? kVectorSize<T> : 1;
  constexpr int kSumSize = kVectorSize<float>;
  const float* g_sum_row = g_sums + blockIdx.x * n;
  T* g_row = g_out + blockIdx.x * n;
#pragma unroll 2
  for (std::int64_t i = threadIdx.x; i < n / kSize; i += kThreads) {
    if constexpr (kIsVector) {
      float values[kSize];
#pragma unroll
      for (int part = 0; part < kSize / kSumSize; ++part) {
        float sums[kSumSize];
        unpack(load_vector(g_sum_row, i * (kSize / kSumSize) + part), sums);
#pragma unroll
        for (int j = 0; j < kSumSize; ++j) values[part * kSumSize + j] = sums[j];
      }
      float former[kSize] = {};
      if (epilogue.accumulate) unpack(load_vector(g_row, i), former);
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        values[j] = epilogue.template finish<T>(values[j], i * kSize + j, former[j]);
      }
      store_vector(g_row, i, values);
    } else {
      g_row[i] = epilogue.apply(g_sum_row[i], i, g_row[i]);
    }
  }
}

template <typename T>
void finish(const TensorView& sums, const TensorView& out, const Epilogue& epilogue,
            cudaStream_t stream) {
  const std::int64_t n = out.dim(1);
  const auto* g_sums = data_of<const float>(sums);
  T* g_out = data_of<T>(out);
  const auto num_blocks = static_cast<unsigned>(out.dim(0));
  if (has_vector_rows<T>(n, {g_sums, g_out})) {
    finish_kernel<T, true><<<num_blocks, kThreads, 0, stream>>>(g_sums, g_out, n, epilogue);
  } else {
    finish_kernel<T, false><<<num_blocks, kThreads, 0, stream>>>(g_sums, g_out, n, epilogue);
  }
}

// Sums of at most this many bytes stay in the L2 cache until they are finished.
constexpr std::int64_t kSumBytes = std::int64_t{32} << 20;

bool needs_finish(const ops::Linear& op) { return op.bias || op.activation != Activation::kNone; }

Epilogue make_epilogue(const ops::Linear& op) {
  return {op.bias ? data_of<const float>(op.bias) : nullptr, op.activation, op.accumulate};
}

// Computes `op` by cuBLASLt. Returns false, with nothing done, if cuBLASLt cannot. The epilogue
// gets F32 sums. If a BF16 result were rounded before and after it, the error would be 1.4 times as
// large.
bool multiply_by_library(Gpu& gpu, const ops::Linear& op) {
  CublasLt& library = gpu.cublaslt();
  const TensorView& weight = op.weight.dense();
  if (!needs_finish(op)) {
    return library.multiply(op.x.values(), weight, op.out, op.accumulate, gpu.stream());
  }
  TensorView sums = op.out;
  if (op.out.dtype() != DType::kF32) {
    const auto num_bytes = static_cast<std::size_t>(op.out.num_elements()) * sizeof(float);
    sums = TensorView(gpu.workspace(num_bytes), DType::kF32, op.out.shape(), gpu.device());
  }
  const bool accumulates_sums = op.accumulate && sums.bytes() == op.out.bytes();
  if (!library.multiply(op.x.values(), weight, sums, accumulates_sums, gpu.stream())) return false;
  Epilogue epilogue = make_epilogue(op);
  epilogue.accumulate = op.accumulate && !accumulates_sums;
  dispatch(op.out.dtype(), [&]<typename T>() { finish<T>(sums, op.out, epilogue, gpu.stream()); });
  return true;
}

template <typename T>
struct LinearParams {
  const T* g_x;       // [rows, k]
  const T* g_weight;  // [n, k]
  T* g_out;           // [rows, n]
  std::int64_t rows, n, k;
  Epilogue epilogue;
};

template <typename T>
void launch_row(const LinearParams<T>& p, cudaStream_t stream) {
  const auto num_blocks = static_cast<unsigned>((p.n + kWarps - 1) / kWarps);
  multiply_row_kernel<T>
      <<<num_blocks, kThreads, 0, stream>>>(p.g_x, p.g_weight, p.g_out, p.n, p.k, p.epilogue);
}

template <typename T>
void launch_narrow(const LinearParams<T>& p, cudaStream_t stream) {
  constexpr int kBlockRows = kThreads / 4;
  const auto num_blocks = static_cast<unsigned>((p.rows + kBlockRows - 1) / kBlockRows);
  multiply_narrow_kernel<T><<<num_blocks, kThreads, 0, stream>>>(
      p.g_x, p.g_weight, p.g_out, p.rows, static_cast<int>(p.n), p.k, p.epilogue);
}

template <typename T>
void launch_any(const LinearParams<T>& p, cudaStream_t stream) {
  const auto num_blocks = static_cast<unsigned>((p.rows + 15) / 16 * ((p.n + 15) / 16));
  multiply_any_kernel<T><<<num_blocks, kThreads, 0, stream>>>(p.g_x, p.g_weight, p.g_out, p.rows,
                                                              p.n, p.k, p.epilogue);
}

}  // namespace

void run(Gpu& gpu, const ops::Linear& op) {
  if (op.out.num_elements() == 0) return;
  if (op.x.is_quantised()) return multiply_quantised(gpu, op);
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    const LinearParams<T> params{.g_x = data_of<const T>(op.x.values()),
                                 .g_weight = data_of<const T>(op.weight.dense()),
                                 .g_out = data_of<T>(op.out),
                                 .rows = op.x.dim(0),
                                 .n = op.out.dim(1),
                                 .k = op.x.dim(1),
                                 .epilogue = make_epilogue(op)};
    const bool has_vectors = has_vector_rows<T>(params.k, {params.g_x, params.g_weight});
    const std::int64_t piece = std::max<std::int64_t>(kSumBytes / (params.n * sizeof(float)), 1);
    if (params.rows == 1 && has_vectors) {
      launch_row(params, gpu.stream());
    } else if (params.n <= kMaxNarrow && has_vectors) {
      launch_narrow(params, gpu.stream());
    } else if (params.rows > piece && needs_finish(op)) {
      for (std::int64_t begin = 0; begin < params.rows; begin += piece) {
        const std::int64_t end = std::min(begin + piece, params.rows);
        run(gpu, {.x = op.x.values().rows(begin, end),
                  .weight = op.weight,
                  .bias = op.bias,
                  .out = op.out.rows(begin, end),
                  .activation = op.activation,
                  .accumulate = op.accumulate});
      }
    } else if (params.k == 0 || !multiply_by_library(gpu, op)) {
      launch_any(params, gpu.stream());
    }
  });
  check_launch("linear");
}
template void compute(Gpu&, const ops::Linear&);

}  // namespace mochi::cuda
