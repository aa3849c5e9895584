#include <dlfcn.h>

#include <array>
#include <cstddef>

#include "backend/cuda/common/cuda_check.h"
#include "backend/cuda/sm90/tensor_map.h"

namespace mochi::cuda {
namespace {

constexpr std::size_t kMaxRank = 5;

// Looked up by name, because the program must start on machines without a driver.
auto find_encoder() {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW);
  void* function = driver == nullptr ? nullptr : dlsym(driver, "cuTensorMapEncodeTiled");
  if (function == nullptr) fail_cuda(cudaErrorNotSupported, "looking for cuTensorMapEncodeTiled");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

}  // namespace

CUtensorMap make_tensor_map(const void* g_data, std::span<const std::int64_t> sizes,
                            std::span<const std::int64_t> stride_bytes, std::span<const int> box,
                            bool swizzled) {
  static const auto encode = find_encoder();
  const std::size_t rank = sizes.size();
  if (rank < 2 || rank > kMaxRank || stride_bytes.size() != rank - 1 || box.size() != rank) {
    fail_cuda(cudaErrorInvalidValue, "describing a tensor");
  }
  std::array<cuuint64_t, kMaxRank> extents{};
  std::array<cuuint64_t, kMaxRank> strides{};
  std::array<cuuint32_t, kMaxRank> boxes{};
  std::array<cuuint32_t, kMaxRank> steps{};
  for (std::size_t i = 0; i < rank; ++i) {
    extents[i] = static_cast<cuuint64_t>(sizes[i]);
    boxes[i] = static_cast<cuuint32_t>(box[i]);
    steps[i] = 1;
    if (i + 1 < rank) strides[i] = static_cast<cuuint64_t>(stride_bytes[i]);
  }
  CUtensorMap map{};
  const CUresult code =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<cuuint32_t>(rank),
             const_cast<void*>(g_data), extents.data(), strides.data(), boxes.data(), steps.data(),
             CU_TENSOR_MAP_INTERLEAVE_NONE,
             swizzled ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (code != CUDA_SUCCESS) fail_cuda(cudaErrorInvalidValue, "describing a tensor");
  return map;
}

}  // namespace mochi::cuda
