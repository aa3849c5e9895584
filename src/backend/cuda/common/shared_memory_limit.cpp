#include "backend/cuda/common/shared_memory_limit.h"

#include <map>
#include <mutex>
#include <utility>

#include "backend/cuda/common/cuda_check.h"

namespace mochi::cuda {

void allow_shared_memory(const void* kernel, int num_bytes) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, int> limits;  // by kernel and index of the GPU
  int index = 0;
  check(cudaGetDevice(&index), "querying the current GPU");
  const std::lock_guard lock(mutex);
  int& limit = limits[{kernel, index}];
  if (num_bytes <= limit) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, num_bytes),
        "setting the size of shared memory");
  limit = num_bytes;
}

}  // namespace mochi::cuda
