// The GPU that a thread's CUDA calls go to.
#pragma once

#include <cuda_runtime.h>

#include <new>

#include "backend/cuda/common/cuda_check.h"

namespace mochi::cuda {

// Makes a GPU the current one of this thread; the destructor restores the previous one.
class DeviceScope {
 public:
  explicit DeviceScope(int index) {
    check(cudaGetDevice(&previous_), "querying the current GPU");
    if (previous_ == index) return;
    check(cudaSetDevice(index), "selecting a GPU");
    is_changed_ = true;
  }
  // For destructors: ignores errors, such as those of work that has failed before.
  DeviceScope(int index, std::nothrow_t /*unused*/) noexcept
      : is_changed_(cudaGetDevice(&previous_) == cudaSuccess && previous_ != index &&
                    cudaSetDevice(index) == cudaSuccess) {}
  ~DeviceScope() {
    if (is_changed_) cudaSetDevice(previous_);
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int previous_ = 0;
  bool is_changed_ = false;
};

}  // namespace mochi::cuda
