#include "backend/cuda/staged_loader.h"

#include <algorithm>
#include <cstring>

#include "backend/cuda/device_scope.h"
#include "backend/cuda/pinned_memory.h"
#include "base/error.h"
#include "base/parallel_for.h"

namespace mochi::cuda {
namespace {

// Copies on several threads, because one thread reads mapped files more slowly than the bus
// transfers them.
void copy_bytes(std::span<const std::byte> from, std::byte* to) {
  constexpr std::int64_t kGrain = std::int64_t{1} << 20;
  parallel_for(0, std::ssize(from), kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::memcpy(to + begin, from.data() + begin, static_cast<std::size_t>(end - begin));
  });
}

}  // namespace

StagedLoader::StagedLoader(Allocator& device_allocator)
    : device_index_(device_allocator.device().index), stream_(device_index_) {
  const Shape shape{static_cast<std::int64_t>(kSlotBytes)};
  for (std::size_t i = 0; i < kNumSlots; ++i) {
    slots_.push_back({.host = Tensor(DType::kU8, shape, pinned_allocator(device_index_)),
                      .device = Tensor(DType::kU8, shape, device_allocator),
                      .is_free = Event(device_index_)});
  }
}

void StagedLoader::load(DType stored, std::span<const std::byte> bytes, const TensorView& target) {
  const bool is_loadable = is_float(stored) || stored == target.dtype();
  if (!is_loadable || target.device() != Device::cuda(device_index_) ||
      bytes.size() != static_cast<std::size_t>(target.num_elements()) * dtype_bytes(stored)) {
    fail("loading weights: {} bytes of {} for a target {}", bytes.size(), dtype_name(stored),
         target.shape().to_string());
  }
  const DeviceScope scope(device_index_);
  for (std::size_t begin = 0; begin < bytes.size(); begin += kSlotBytes) {
    load_chunk(stored, bytes.subspan(begin, std::min(kSlotBytes, bytes.size() - begin)), target,
               begin / dtype_bytes(stored));
  }
}

void StagedLoader::load_chunk(DType stored, std::span<const std::byte> bytes,
                              const TensorView& target, std::size_t first) {
  const Slot& slot = slots_[next_];
  next_ = (next_ + 1) % kNumSlots;
  std::byte* const out = target.bytes() + first * dtype_bytes(target.dtype());
  const bool is_same = stored == target.dtype();
  check(cudaEventSynchronize(slot.is_free), "waiting for a copy to the GPU");
  copy_bytes(bytes, slot.host.view().bytes());
  check(cudaMemcpyAsync(is_same ? out : slot.device.view().bytes(), slot.host.view().bytes(),
                        bytes.size(), cudaMemcpyHostToDevice, stream_),
        "copying to the GPU");
  if (!is_same) {
    convert_on_device(stored, slot.device.view().bytes(), target.dtype(), out,
                      static_cast<std::int64_t>(bytes.size() / dtype_bytes(stored)), stream_);
  }
  check(cudaEventRecord(slot.is_free, stream_), "recording an event");
}

void StagedLoader::finish() {
  const DeviceScope scope(device_index_);
  check(cudaStreamSynchronize(stream_), "copying to the GPU");
}

}  // namespace mochi::cuda
