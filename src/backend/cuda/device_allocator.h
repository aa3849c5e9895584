// Device memory, counted and limited.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "backend/backend.h"

namespace mochi::cuda {

class DeviceAllocator final : public Allocator {
 public:
  // limit_bytes 0: all that the device has. Throws Error when it is not above kReservedBytes.
  explicit DeviceAllocator(std::uint64_t limit_bytes);

  // 256-byte aligned, undefined contents. Throws OutOfMemory saying what was wanted and what there
  // is.
  void* allocate(std::size_t num_bytes) override;
  // Waits until the device has finished all work.
  void deallocate(void* block) noexcept override;
  Device device() const override { return Device::kCuda; }
  DeviceMemory memory() const;
  void restart_peak();

  // Of a limit so much is left to CUDA's own needs, which nobody can count from inside: its
  // context, the code of the kernels, the libraries' tables.
  static constexpr std::uint64_t kReservedBytes = std::uint64_t{1} << 30;

 private:
  std::uint64_t available_bytes() const;

  std::uint64_t limit_bytes_;  // of the tensors alone; 0: none
  std::uint64_t used_bytes_ = 0, peak_bytes_ = 0;
  mutable std::mutex mutex_;
  std::unordered_map<void*, std::size_t> sizes_;
};

}  // namespace mochi::cuda
