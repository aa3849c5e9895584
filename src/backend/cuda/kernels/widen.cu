// Matrices of weights from the types that files store, widened for a product. The kernels read and
// write each byte once, so that the memory's bandwidth bounds them.
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <algorithm>

#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/common/vector.cuh"
#include "backend/cuda/implement.h"

namespace mochi::cuda {
namespace {

constexpr int kWidenThreads = 256;
constexpr int kRun = 8;  // consecutive elements that one thread widens; they share a scale

__device__ float read_half(const std::uint8_t* bytes) {
  return __half2float(*reinterpret_cast<const __half*>(bytes));
}

// Scale and minimum of a group of 32 in Q4_K and Q5_K: 6 bits each, packed into 12 bytes.
__device__ void unpack_scale(const std::uint8_t* packed, int group, float& scale, float& minimum) {
  if (group < 4) {
    scale = static_cast<float>(packed[group] & 63);
    minimum = static_cast<float>(packed[group + 4] & 63);
  } else {
    scale = static_cast<float>((packed[group + 4] & 15) | (packed[group - 4] >> 6 << 4));
    minimum = static_cast<float>((packed[group + 4] >> 4) | (packed[group] >> 6 << 4));
  }
}

// Scale of a group of 16 in Q3_K: the low 4 bits of all come first, then the high 2 bits.
__device__ float unpack_q3_scale(const std::uint8_t* packed, int group) {
  const int low = group < 8 ? packed[group] & 15 : packed[group - 8] >> 4;
  const int high = packed[8 + group % 4] >> (2 * (group / 4)) & 3;
  return static_cast<float>((low | high << 4) - 32);
}

// Widens elements [first, first + kRun) of a block, as GGML defines the format. The values equal
// those of dequantize(): their products are exact.
template <BlockFormat kFormat>
__device__ void widen_run(const std::uint8_t* block, int first, float (&values)[kRun]) {
  if constexpr (kFormat == BlockFormat::kQ8_0) {
    const float scale = read_half(block);
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      values[i] = scale * static_cast<float>(static_cast<std::int8_t>(block[2 + first + i]));
    }
  } else if constexpr (kFormat <= BlockFormat::kQ5_1) {
    constexpr bool kHasMinimum = kFormat == BlockFormat::kQ4_1 || kFormat == BlockFormat::kQ5_1;
    constexpr bool kHasFifthBit = kFormat == BlockFormat::kQ5_0 || kFormat == BlockFormat::kQ5_1;
    constexpr int kBits = kHasMinimum ? 4 : 2;
    constexpr int kNibbles = kBits + (kHasFifthBit ? 4 : 0);
    constexpr int kZero = kHasMinimum ? 0 : (kHasFifthBit ? 16 : 8);
    const float scale = read_half(block);
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      const int element = first + i;
      int code = block[kNibbles + element % 16] >> (4 * (element / 16)) & 15;
      if constexpr (kHasFifthBit) code |= (block[kBits + element / 8] >> (element % 8) & 1) << 4;
      values[i] = scale * static_cast<float>(code - kZero);
      if constexpr (kHasMinimum) values[i] += read_half(block + 2);
    }
  } else if constexpr (kFormat == BlockFormat::kQ2K) {
    const int codes = block[first / 16];
    const float scale = read_half(block + 80) * static_cast<float>(codes & 15);
    const float minimum = read_half(block + 82) * static_cast<float>(codes >> 4);
    const std::uint8_t* const pairs = block + 16 + first / 128 * 32 + first % 32;
    const int shift = 2 * (first % 128 / 32);
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      values[i] = scale * static_cast<float>(pairs[i] >> shift & 3) - minimum;
    }
  } else if constexpr (kFormat == BlockFormat::kQ3K) {
    const float scale = read_half(block + 108) * unpack_q3_scale(block + 96, first / 16);
    const std::uint8_t* const pairs = block + 32 + first / 128 * 32 + first % 32;
    const std::uint8_t* const high = block + first % 32;
    const int shift = 2 * (first % 128 / 32);
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      const int is_high = high[i] >> (first / 32) & 1;
      values[i] = scale * static_cast<float>((pairs[i] >> shift & 3) - 4 * (1 - is_high));
    }
  } else if constexpr (kFormat == BlockFormat::kQ4K || kFormat == BlockFormat::kQ5K) {
    constexpr bool kHasFifthBit = kFormat == BlockFormat::kQ5K;
    const int group = first / 32;
    float scale = 0;
    float minimum = 0;
    unpack_scale(block + 4, group, scale, minimum);
    scale *= read_half(block);
    minimum *= read_half(block + 2);
    const std::uint8_t* const nibbles =
        block + (kHasFifthBit ? 48 : 16) + group / 2 * 32 + first % 32;
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      int code = nibbles[i] >> (4 * (group % 2)) & 15;
      if constexpr (kHasFifthBit) code |= (block[16 + first % 32 + i] >> group & 1) << 4;
      values[i] = scale * static_cast<float>(code) - minimum;
    }
  } else {
    static_assert(kFormat == BlockFormat::kQ6K);
    const int group = first % 128 / 32;
    const auto factor = static_cast<std::int8_t>(block[192 + first / 16]);
    const float scale = read_half(block + 208) * static_cast<float>(factor);
    const std::uint8_t* const nibbles = block + first / 128 * 64 + group % 2 * 32 + first % 32;
    const std::uint8_t* const pairs = block + 128 + first / 128 * 32 + first % 32;
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      const int low = nibbles[i] >> (4 * (group / 2)) & 15;
      const int high = pairs[i] >> (2 * group) & 3;
      values[i] = scale * static_cast<float>((low | high << 4) - 32);
    }
  }
}

template <typename T>
__device__ void store_run(T* g_out, const float (&values)[kRun]) {
  if constexpr (sizeof(T) == 2) {
    store_vector(g_out, 0, values);
  } else {
    store_vector(g_out, 0, {values[0], values[1], values[2], values[3]});
    store_vector(g_out, 1, {values[4], values[5], values[6], values[7]});
  }
}

// Each thread block widens tiles of kRun elements for each thread, whose bytes it first copies to
// shared memory, because blocks are not aligned to more than two bytes.
template <BlockFormat kFormat, typename T>
__global__ void __launch_bounds__(kWidenThreads)
    widen_blocks_kernel(const std::byte* g_blocks, T* g_out, std::int64_t num_elements) {
  constexpr int kTile = kWidenThreads * kRun;
  constexpr int kBlockSize = static_cast<int>(elements_per_block(kFormat));
  constexpr int kBlockBytes = static_cast<int>(bytes_per_block(kFormat));
  constexpr int kTileBytes = kTile / kBlockSize * kBlockBytes;
  constexpr int kVectorBytes = 16;
  static_assert(kTileBytes % kVectorBytes == 0);
  __shared__ alignas(kVectorBytes) std::uint8_t s_blocks[kTileBytes];
  const std::int64_t num_bytes = num_elements / kBlockSize * kBlockBytes;
  for (std::int64_t tile = blockIdx.x; tile * kTile < num_elements; tile += gridDim.x) {
    const std::byte* const g_tile = g_blocks + tile * kTileBytes;
    const auto tile_bytes = static_cast<int>(min(
        static_cast<long long>(num_bytes - tile * kTileBytes), static_cast<long long>(kTileBytes)));
    for (int i = static_cast<int>(threadIdx.x) * kVectorBytes; i < tile_bytes;
         i += kWidenThreads * kVectorBytes) {
      if (i + kVectorBytes <= tile_bytes) {
        *reinterpret_cast<uint4*>(s_blocks + i) =
            __ldcs(reinterpret_cast<const uint4*>(g_tile + i));
      } else {
        for (int j = i; j < tile_bytes; ++j) s_blocks[j] = static_cast<std::uint8_t>(g_tile[j]);
      }
    }
    __syncthreads();
    const int element = static_cast<int>(threadIdx.x) * kRun;
    if (tile * kTile + element < num_elements) {
      float values[kRun];
      widen_run<kFormat>(s_blocks + element / kBlockSize * kBlockBytes, element % kBlockSize,
                         values);
      store_run(g_out + tile * kTile + element, values);
    }
    __syncthreads();
  }
}

template <DType kStored>
__device__ float widen_byte(std::uint8_t byte) {
  if constexpr (kStored == DType::kI8) return static_cast<float>(static_cast<std::int8_t>(byte));
  constexpr __nv_fp8_interpretation_t kFormat = kStored == DType::kF8E4M3 ? __NV_E4M3 : __NV_E5M2;
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(byte, kFormat)));
}

template <typename T>
__device__ T to_value(float value) {
  if constexpr (sizeof(T) == 2) return __float2bfloat16_rn(value);
  return value;
}

// Elements of one byte; each thread block widens whole rows. There are no scales, one, or one for
// each row.
template <DType kStored, typename T>
__global__ void __launch_bounds__(kWidenThreads)
    widen_bytes_kernel(const std::uint8_t* g_elements, const float* g_scales, bool has_row_scales,
                       T* g_out, std::int64_t num_rows, int row_size) {
  for (std::int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    const float scale = g_scales == nullptr ? 1.0F : g_scales[has_row_scales ? row : 0];
    const std::uint8_t* const g_row = g_elements + row * row_size;
    T* const g_out_row = g_out + row * row_size;
    if (row_size % kRun != 0) {
      for (int i = static_cast<int>(threadIdx.x); i < row_size; i += kWidenThreads) {
        g_out_row[i] = to_value<T>(widen_byte<kStored>(g_row[i]) * scale);
      }
      continue;
    }
    for (int i = static_cast<int>(threadIdx.x) * kRun; i < row_size; i += kWidenThreads * kRun) {
      const uint2 bytes = __ldcs(reinterpret_cast<const uint2*>(g_row + i));
      float values[kRun];
#pragma unroll
      for (int j = 0; j < kRun; ++j) {
        const std::uint32_t word = j < 4 ? bytes.x : bytes.y;
        values[j] = widen_byte<kStored>(static_cast<std::uint8_t>(word >> (8 * (j % 4)))) * scale;
      }
      store_run(g_out_row + i, values);
    }
  }
}

constexpr std::int64_t kMostThreadBlocks = 8192;

// Calls fn.template operator()<format>().
template <typename Fn>
void dispatch_format(BlockFormat format, const Fn& fn) {
  switch (format) {
    case BlockFormat::kQ8_0:
      return fn.template operator()<BlockFormat::kQ8_0>();
    case BlockFormat::kQ4_0:
      return fn.template operator()<BlockFormat::kQ4_0>();
    case BlockFormat::kQ4_1:
      return fn.template operator()<BlockFormat::kQ4_1>();
    case BlockFormat::kQ5_0:
      return fn.template operator()<BlockFormat::kQ5_0>();
    case BlockFormat::kQ5_1:
      return fn.template operator()<BlockFormat::kQ5_1>();
    case BlockFormat::kQ2K:
      return fn.template operator()<BlockFormat::kQ2K>();
    case BlockFormat::kQ3K:
      return fn.template operator()<BlockFormat::kQ3K>();
    case BlockFormat::kQ4K:
      return fn.template operator()<BlockFormat::kQ4K>();
    case BlockFormat::kQ5K:
      return fn.template operator()<BlockFormat::kQ5K>();
    case BlockFormat::kQ6K:
      return fn.template operator()<BlockFormat::kQ6K>();
  }
}

template <typename T>
void widen_blocks(BlockFormat format, const MatrixView& matrix, const TensorView& out,
                  cudaStream_t stream) {
  const std::int64_t n = matrix.num_elements();
  constexpr std::int64_t kTile = kWidenThreads * kRun;
  const auto num_blocks =
      static_cast<unsigned>(std::min((n + kTile - 1) / kTile, kMostThreadBlocks));
  dispatch_format(format, [&]<BlockFormat kFormat>() {
    widen_blocks_kernel<kFormat, T>
        <<<num_blocks, kWidenThreads, 0, stream>>>(matrix.values().bytes(), data_of<T>(out), n);
  });
}

template <DType kStored, typename T>
void widen_bytes(const MatrixView& matrix, const TensorView& out, cudaStream_t stream) {
  const TensorView& scales = matrix.scales();
  const auto num_blocks = static_cast<unsigned>(std::min(matrix.dim(0), kMostThreadBlocks));
  widen_bytes_kernel<kStored, T><<<num_blocks, kWidenThreads, 0, stream>>>(
      reinterpret_cast<const std::uint8_t*>(matrix.values().bytes()),
      reinterpret_cast<const float*>(scales.bytes()), scales && scales.num_elements() > 1,
      data_of<T>(out), matrix.dim(0), static_cast<int>(matrix.dim(1)));
}

}  // namespace

void run(Gpu& gpu, const ops::Widen& op) {
  dispatch(op.out.dtype(), [&]<typename T>() {
    if (const auto* const format = std::get_if<BlockFormat>(&op.matrix.type())) {
      return widen_blocks<T>(*format, op.matrix, op.out, gpu.stream());
    }
    switch (std::get<DType>(op.matrix.type())) {
      case DType::kF8E4M3:
        return widen_bytes<DType::kF8E4M3, T>(op.matrix, op.out, gpu.stream());
      case DType::kF8E5M2:
        return widen_bytes<DType::kF8E5M2, T>(op.matrix, op.out, gpu.stream());
      case DType::kI8:
        return widen_bytes<DType::kI8, T>(op.matrix, op.out, gpu.stream());
      default:
        break;  // not compact: refused by the front
    }
  });
  check_launch("widen");
}
template void compute(Gpu&, const ops::Widen&);

}  // namespace mochi::cuda
