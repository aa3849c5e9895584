#include "backend/cuda/background_copies.h"

#include <utility>

#include "backend/cuda/device_scope.h"

namespace mochi::cuda {
namespace {

// A copy whose end is an event, which returns to its pool.
class CopyState final : public Transfer::State {
 public:
  CopyState(std::shared_ptr<EventPool> pool, Event event, int device_index, cudaStream_t compute)
      : pool_(std::move(pool)),
        event_(std::move(event)),
        device_index_(device_index),
        compute_(compute) {}
  ~CopyState() override { pool_->put(std::move(event_)); }
  CopyState(const CopyState&) = delete;
  CopyState& operator=(const CopyState&) = delete;

  void await() override {
    const DeviceScope scope(device_index_);
    check(cudaStreamWaitEvent(compute_, event_), "waiting for an event");
  }

 private:
  std::shared_ptr<EventPool> pool_;
  Event event_;
  int device_index_;
  cudaStream_t compute_;
};

}  // namespace

Event EventPool::take() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) return Event(device_index_);
  Event event = std::move(free_.back());
  free_.pop_back();
  return event;
}

void EventPool::put(Event event) {
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(event));
}

Transfer BackgroundCopies::start(const TensorView& source, const TensorView& target) {
  const DeviceScope scope(device_index_);
  const bool is_to_gpu = source.device().is_cpu();
  std::optional<Stream>& stream = is_to_gpu ? to_gpu_ : to_host_;
  if (!stream) stream.emplace(device_index_);
  Event event = events_->take();
  // A wait concerns the latest record of an event before it, so that one event serves both.
  check(cudaEventRecord(event, compute_), "recording an event");
  check(cudaStreamWaitEvent(*stream, event), "waiting for an event");
  check(cudaMemcpyAsync(target.bytes(), source.bytes(), source.size_bytes(),
                        is_to_gpu ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost, *stream),
        is_to_gpu ? "copying to the GPU" : "copying from the GPU");
  check(cudaEventRecord(event, *stream), "recording an event");
  return Transfer(std::make_unique<CopyState>(events_, std::move(event), device_index_, compute_));
}

}  // namespace mochi::cuda
