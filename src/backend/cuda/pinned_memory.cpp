#include "backend/cuda/pinned_memory.h"

#include <algorithm>

#include "base/error.h"

namespace mochi::cuda {
namespace {

class PinnedAllocator final : public Allocator {
 public:
  void* allocate(std::size_t num_bytes) override {
    void* block = nullptr;
    const std::size_t size = std::max<std::size_t>(num_bytes, 1);
    const cudaError_t code = cudaHostAlloc(&block, size, cudaHostAllocDefault);
    if (code == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // or the next call would report it again
      throw OutOfMemory(
          fmt::format("host memory: wanted {} MiB more that the GPU can read", (size >> 20) + 1));
    }
    check(code, "taking host memory that the GPU can read");
    return block;
  }
  void deallocate(void* block) noexcept override { cudaFreeHost(block); }
  Device device() const override { return Device::kCpu; }
};

}  // namespace

Allocator& pinned_allocator() {
  static PinnedAllocator allocator;
  return allocator;
}

}  // namespace mochi::cuda
