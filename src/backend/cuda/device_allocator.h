// Device memory with a count and a limit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "backend/device_runtime.h"

namespace mochi::cuda {

class DeviceAllocator final : public Allocator {
 public:
  // limit_bytes 0 allows all memory of the device. Throws Error unless a limit is above
  // kReservedBytes.
  DeviceAllocator(Device device, std::uint64_t limit_bytes);

  // Returns a 256-byte aligned block with undefined contents. Throws OutOfMemory with the wanted
  // and the available size.
  void* allocate(std::size_t num_bytes) override;
  // Waits until the device has finished all work.
  void deallocate(void* block) noexcept override;
  Device device() const override { return device_; }
  DeviceMemory memory() const;
  void restart_peak();
  // The number of allocations and deallocations so far.
  std::uint64_t epoch() const;

  // The part of a limit that is left to CUDA itself (its context, the code of the kernels, the
  // libraries' tables), which the process cannot count.
  static constexpr std::uint64_t kReservedBytes = std::uint64_t{1} << 30;

 private:
  std::uint64_t available_bytes() const;

  Device device_;
  std::uint64_t limit_bytes_;  // limit of the tensors alone; 0: none
  std::uint64_t used_bytes_ = 0, peak_bytes_ = 0;
  std::uint64_t epoch_ = 0;
  mutable std::mutex mutex_;
  std::unordered_map<void*, std::size_t> sizes_;
};

}  // namespace mochi::cuda
