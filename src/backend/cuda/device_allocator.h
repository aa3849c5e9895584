// Device memory, counted and limited.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "tensor/tensor.h"

namespace mochi::cuda {

class DeviceAllocator final : public Allocator {
 public:
  // limit_bytes 0: all that the device has.
  explicit DeviceAllocator(std::uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  // 256-byte aligned, undefined contents. Throws Error saying what was wanted, what there is, and
  // which options help.
  void* allocate(std::size_t num_bytes) override;
  // Waits until the device has finished all work.
  void deallocate(void* block) noexcept override;
  Device device() const override { return Device::kCuda; }

 private:
  std::uint64_t limit_bytes_;
  std::uint64_t used_bytes_ = 0;
  std::mutex mutex_;
  std::unordered_map<void*, std::size_t> sizes_;
};

}  // namespace mochi::cuda
