#include "backend/cuda/prefetch_stream.h"

namespace mochi::cuda {

void PrefetchStream::start(int slot, const TensorView& host, const TensorView& target,
                           cudaStream_t compute) {
  check(cudaEventRecord(target_is_free_, compute), "recording an event");
  check(cudaStreamWaitEvent(stream_, target_is_free_), "waiting for an event");
  check(cudaMemcpyAsync(target.bytes(), host.bytes(), host.size_bytes(), cudaMemcpyHostToDevice,
                        stream_),
        "copying to the GPU");
  check(cudaEventRecord(is_done_[static_cast<std::size_t>(slot)], stream_), "recording an event");
}

void PrefetchStream::await(int slot, cudaStream_t compute) {
  check(cudaStreamWaitEvent(compute, is_done_[static_cast<std::size_t>(slot)]),
        "waiting for an event");
}

}  // namespace mochi::cuda
