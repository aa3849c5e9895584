// Owners of CUDA's events and streams, each of the GPU with the given index. They may be waited for
// and destroyed while another GPU is the current one.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "backend/cuda/common/cuda_check.h"
#include "backend/cuda/device_scope.h"

namespace mochi::cuda {

class Event {
 public:
  explicit Event(int device_index) {
    const DeviceScope scope(device_index);
    check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "creating an event");
  }
  ~Event() {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&&) = delete;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  operator cudaEvent_t() const { return event_; }  // NOLINT: implicit, for CUDA's calls

 private:
  cudaEvent_t event_ = nullptr;
};

class Stream {
 public:
  // `external` is a cudaStream_t that somebody else destroys; null: a new stream.
  explicit Stream(int device_index, void* external = nullptr)
      : stream_(static_cast<cudaStream_t>(external)), is_owned_(external == nullptr) {
    if (!is_owned_) return;
    const DeviceScope scope(device_index);
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream");
  }
  // Waits until the stream's work is complete, because the memory that it uses may be freed next.
  ~Stream() {
    cudaStreamSynchronize(stream_);
    if (is_owned_) cudaStreamDestroy(stream_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  operator cudaStream_t() const { return stream_; }  // NOLINT: implicit, for CUDA's calls

 private:
  cudaStream_t stream_ = nullptr;
  bool is_owned_;
};

}  // namespace mochi::cuda
