#include "backend/cuda/pinned_memory.h"

#include <cuda_runtime.h>
#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>

#include "backend/cuda/common/cuda_check.h"
#include "backend/cuda/device_scope.h"
#include "base/error.h"
#include "base/memory_usage.h"
#include "base/parallel_for.h"

namespace mochi::cuda {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kMinMapped = std::size_t{16} << 20;

// Allocates pinned memory. CUDA's own allocation gets its pages one by one, from one thread. Pages
// that already exist only have to be pinned, and huge pages that many threads touch exist ten times
// as fast.
class PinnedAllocator final : public Allocator {
 public:
  explicit PinnedAllocator(int device_index) : device_index_(device_index) {}

  void* allocate(std::size_t num_bytes) override {
    if (num_bytes >= kMinMapped) {
      if (void* const block = map(num_bytes)) return block;
    }
    const DeviceScope scope(device_index_);
    void* block = nullptr;
    const std::size_t size = std::max<std::size_t>(num_bytes, 1);
    const cudaError_t code = cudaHostAlloc(&block, size, cudaHostAllocPortable);
    if (code == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // clears the error, or the next call would report it again
      fail_for_lack_of(size);
    }
    check(code, "allocating pinned host memory");
    return block;
  }

  void deallocate(void* block) noexcept override {
    std::size_t size = 0;
    {
      const std::lock_guard lock(mutex_);
      const auto found = mapped_.find(block);
      if (found != mapped_.end()) {
        size = found->second;
        mapped_.erase(found);
      }
    }
    if (size == 0) {
      cudaFreeHost(block);
      return;
    }
    cudaHostUnregister(block);
    ::munmap(block, size);
  }

  Device device() const override { return Device::cpu(); }

 private:
  [[noreturn]] static void fail_for_lack_of(std::size_t size) {
    throw OutOfMemory(
        fmt::format("host memory: wanted {} MiB more of pinned memory", (size >> 20) + 1));
  }

  // Returns null if the memory cannot be allocated in this way.
  void* map(std::size_t num_bytes) {
    const std::size_t size = (num_bytes + kHugePage - 1) / kHugePage * kHugePage;
    // Mapping more than is available would succeed, and filling it would end the process.
    const std::uint64_t available = available_memory_bytes();
    if (available > 0 && size > available) fail_for_lack_of(size);
    void* const block =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) return nullptr;
    ::madvise(block, size, MADV_HUGEPAGE);
    auto* const bytes = static_cast<std::byte*>(block);
    constexpr std::size_t kPage = 4096;
    parallel_for(0, static_cast<std::int64_t>(size / kHugePage), 1,
                 [&](std::int64_t begin, std::int64_t end) {
                   const auto last = static_cast<std::size_t>(end) * kHugePage;
                   for (auto at = static_cast<std::size_t>(begin) * kHugePage; at < last;
                        at += kPage) {
                     bytes[at] = std::byte{0};
                   }
                 });
    const DeviceScope scope(device_index_);
    if (cudaHostRegister(block, size, cudaHostRegisterPortable) != cudaSuccess) {
      cudaGetLastError();
      ::munmap(block, size);
      return nullptr;
    }
    const std::lock_guard lock(mutex_);
    mapped_[block] = size;
    return block;
  }

  int device_index_;
  std::mutex mutex_;
  std::unordered_map<void*, std::size_t> mapped_;  // blocks that CUDA did not allocate
};

}  // namespace

Allocator& pinned_allocator(int device_index) {
  static std::mutex mutex;
  static std::map<int, PinnedAllocator> allocators;
  const std::lock_guard lock(mutex);
  return allocators.try_emplace(device_index, device_index).first->second;
}

}  // namespace mochi::cuda
