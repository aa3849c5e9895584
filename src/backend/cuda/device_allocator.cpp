#include "backend/cuda/device_allocator.h"

#include <algorithm>

#include "backend/cuda/cuda_check.h"
#include "base/error.h"

namespace mochi::cuda {

void* DeviceAllocator::allocate(std::size_t num_bytes) {
  const std::lock_guard lock(mutex_);
  const std::size_t size = std::max<std::size_t>(num_bytes, 1);
  void* block = nullptr;
  const bool is_over = limit_bytes_ > 0 && used_bytes_ + size > limit_bytes_;
  if (is_over || cudaMalloc(&block, size) != cudaSuccess) {
    cudaGetLastError();
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    check(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for the free GPU memory");
    fail("GPU memory: wanted {} MB more, in use are {} MB, free are {} MB of {} MB", size >> 20,
         used_bytes_ >> 20, free_bytes >> 20, total_bytes >> 20);
  }
  used_bytes_ += size;
  sizes_[block] = size;
  return block;
}

void DeviceAllocator::deallocate(void* block) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = sizes_.find(block);
  if (found == sizes_.end()) return;
  used_bytes_ -= found->second;
  sizes_.erase(found);
  cudaFree(block);
}

}  // namespace mochi::cuda
