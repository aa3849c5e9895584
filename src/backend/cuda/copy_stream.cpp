#include "backend/cuda/copy_stream.h"

namespace mochi::cuda {

void CopyStream::start(int slot, const TensorView& source, const TensorView& target,
                       cudaStream_t compute) {
  const bool is_upload = source.device() == Device::kCpu;
  check(cudaEventRecord(may_begin_, compute), "recording an event");
  check(cudaStreamWaitEvent(stream_, may_begin_), "waiting for an event");
  check(cudaMemcpyAsync(target.bytes(), source.bytes(), source.size_bytes(),
                        is_upload ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost, stream_),
        is_upload ? "copying to the GPU" : "copying from the GPU");
  check(cudaEventRecord(is_done_[static_cast<std::size_t>(slot)], stream_), "recording an event");
}

void CopyStream::await(int slot, cudaStream_t compute) {
  check(cudaStreamWaitEvent(compute, is_done_[static_cast<std::size_t>(slot)]),
        "waiting for an event");
}

}  // namespace mochi::cuda
