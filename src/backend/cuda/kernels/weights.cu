// Weights created on the GPU: from stored ones, or from a seed.
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/implement.h"
#include "backend/cuda/staged_loader.h"
#include "base/normal_quantile.h"
#include "base/philox.h"

namespace mochi::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
__device__ T to_element(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    return __float2bfloat16_rn(value);
  }
}

// Returns every value as the host's conversions do; only the bits of NaNs differ.
template <DType kStored>
__device__ float stored_value(const std::byte* g_source, std::int64_t i) {
  if constexpr (kStored == DType::kF32) return reinterpret_cast<const float*>(g_source)[i];
  if constexpr (kStored == DType::kF16) {
    return __half2float(reinterpret_cast<const __half*>(g_source)[i]);
  }
  if constexpr (kStored == DType::kBF16) {
    return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(g_source)[i]);
  }
  constexpr __nv_fp8_interpretation_t kFormat = kStored == DType::kF8E4M3 ? __NV_E4M3 : __NV_E5M2;
  const auto byte = reinterpret_cast<const __nv_fp8_storage_t*>(g_source)[i];
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(byte, kFormat)));
}

template <DType kStored, typename T>
__global__ void __launch_bounds__(kThreads)
    convert_kernel(const std::byte* g_source, T* g_target, std::int64_t n) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < n;
       i += stride) {
    g_target[i] = to_element<T>(stored_value<kStored>(g_source, i));
  }
}

// Four values from each Philox block, equal to those of fill_normal() on the host.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    fill_normal_kernel(std::uint64_t seed, float mean, float deviation, T* g_target,
                       std::int64_t n) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  const std::int64_t num_blocks = (n + 3) / 4;
  for (std::int64_t block = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
       block < num_blocks; block += stride) {
    const auto counter = static_cast<std::uint64_t>(block);
    const PhiloxWords words = philox_4x32_10({low_half(counter), high_half(counter), 0, 0}, seed);
    for (int j = 0; j < 4; ++j) {
      const std::int64_t i = 4 * block + j;
      if (i < n) g_target[i] = to_element<T>(fmaf(deviation, normal_of_word(words[j]), mean));
    }
  }
}

int num_blocks_for(std::int64_t num_threads) {
  constexpr std::int64_t kMostBlocks = 8192;
  const std::int64_t wanted = (num_threads + kThreads - 1) / kThreads;
  return static_cast<int>(wanted < kMostBlocks ? wanted : kMostBlocks);
}

template <DType kStored, typename T>
void launch_convert(const std::byte* source, std::byte* target, std::int64_t n,
                    cudaStream_t stream) {
  convert_kernel<kStored, T>
      <<<num_blocks_for(n), kThreads, 0, stream>>>(source, reinterpret_cast<T*>(target), n);
}

}  // namespace

void convert_on_device(DType stored, const std::byte* source, DType wanted, std::byte* target,
                       std::int64_t num_elements, cudaStream_t stream) {
  if (num_elements == 0) return;
  dispatch(wanted, [&]<typename T>() {
    switch (stored) {
      case DType::kF32:
        return launch_convert<DType::kF32, T>(source, target, num_elements, stream);
      case DType::kF16:
        return launch_convert<DType::kF16, T>(source, target, num_elements, stream);
      case DType::kBF16:
        return launch_convert<DType::kBF16, T>(source, target, num_elements, stream);
      case DType::kF8E4M3:
        return launch_convert<DType::kF8E4M3, T>(source, target, num_elements, stream);
      case DType::kF8E5M2:
        return launch_convert<DType::kF8E5M2, T>(source, target, num_elements, stream);
      case DType::kI32:
      case DType::kI8:
      case DType::kU8:
        break;  // not a float type; the loader refuses it
    }
  });
  check_launch("converting weights");
}

void run(Gpu& gpu, const ops::FillNormal& op) {
  const std::int64_t n = op.target.num_elements();
  if (n == 0) return;
  dispatch(op.target.dtype(), [&]<typename T>() {
    fill_normal_kernel<T><<<num_blocks_for((n + 3) / 4), kThreads, 0, gpu.stream()>>>(
        op.seed, op.mean, op.deviation, data_of<T>(op.target), n);
  });
  check_launch("fill_normal");
}
template void compute(Gpu&, const ops::FillNormal&);

}  // namespace mochi::cuda
