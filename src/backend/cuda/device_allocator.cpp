#include "backend/cuda/device_allocator.h"

#include <algorithm>

#include "backend/cuda/common/cuda_check.h"
#include "backend/cuda/device_scope.h"
#include "base/error.h"

namespace mochi::cuda {

DeviceAllocator::DeviceAllocator(Device device, std::uint64_t limit_bytes) : device_(device) {
  if (limit_bytes > 0 && limit_bytes <= kReservedBytes) {
    refuse("vram_limit_bytes", "wanted more than the {} MiB that CUDA itself takes, found {} MiB",
           kReservedBytes >> 20, limit_bytes >> 20);
  }
  limit_bytes_ = limit_bytes > 0 ? limit_bytes - kReservedBytes : 0;
}

std::uint64_t DeviceAllocator::available_bytes() const {
  const DeviceScope scope(device_.index);
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  check(cudaMemGetInfo(&free_bytes, &total_bytes), "querying the free GPU memory");
  const std::uint64_t free = free_bytes;
  if (limit_bytes_ == 0) return free;
  return std::min(free, limit_bytes_ - std::min(limit_bytes_, used_bytes_));
}

void* DeviceAllocator::allocate(std::size_t num_bytes) {
  const std::lock_guard lock(mutex_);
  const DeviceScope scope(device_.index);
  const std::size_t size = std::max<std::size_t>(num_bytes, 1);
  void* block = nullptr;
  const bool is_over = limit_bytes_ > 0 && used_bytes_ + size > limit_bytes_;
  const cudaError_t code = is_over ? cudaErrorMemoryAllocation : cudaMalloc(&block, size);
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // clears the error, or the next call would report it again
    constexpr int kMebibyte = 20;
    throw OutOfMemory(fmt::format(
        "GPU memory: wanted {} MiB more, in use are {} MiB, available {} MiB{}",
        (size >> kMebibyte) + 1, used_bytes_ >> kMebibyte, available_bytes() >> kMebibyte,
        limit_bytes_ == 0 ? ""
                          : fmt::format(" of the limit of {} MiB",
                                        (limit_bytes_ + kReservedBytes) >> kMebibyte)));
  }
  check(code, "allocating GPU memory");
  used_bytes_ += size;
  peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  sizes_[block] = size;
  ++epoch_;
  return block;
}

void DeviceAllocator::deallocate(void* block) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = sizes_.find(block);
  if (found == sizes_.end()) return;
  used_bytes_ -= found->second;
  sizes_.erase(found);
  ++epoch_;
  const DeviceScope scope(device_.index, std::nothrow);
  cudaFree(block);
}

DeviceMemory DeviceAllocator::memory() const {
  const std::lock_guard lock(mutex_);
  return {used_bytes_, peak_bytes_, available_bytes()};
}

std::uint64_t DeviceAllocator::epoch() const {
  const std::lock_guard lock(mutex_);
  return epoch_;
}

void DeviceAllocator::restart_peak() {
  const std::lock_guard lock(mutex_);
  peak_bytes_ = used_bytes_;
}

}  // namespace mochi::cuda
