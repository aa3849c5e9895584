// Copies between host and GPU, concurrent with the GPU's other work.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "backend/cuda/stream.h"
#include "backend/transfer.h"
#include "tensor/tensor.h"

namespace mochi::cuda {

// Events that are not in use. Creating one takes longer than using it.
class EventPool {
 public:
  explicit EventPool(int device_index) : device_index_(device_index) {}
  Event take();
  void put(Event event);

 private:
  int device_index_;
  std::mutex mutex_;
  std::vector<Event> free_;
};

class BackgroundCopies {
 public:
  // `compute` is the stream of all other work of the GPU with this index, and outlives this object.
  BackgroundCopies(int device_index, cudaStream_t compute)
      : device_index_(device_index),
        compute_(compute),
        events_(std::make_shared<EventPool>(device_index)) {}

  // See DeviceRuntime::start_copy().
  Transfer start(const TensorView& source, const TensorView& target);

 private:
  int device_index_;
  cudaStream_t compute_;
  std::shared_ptr<EventPool> events_;
  std::optional<Stream> to_gpu_, to_host_;  // created on first use
};

}  // namespace mochi::cuda
