// Copies stored weights through pinned memory to the GPU, where they are converted. A ring of
// buffers lets the host fill one while others are being transferred.
#pragma once

#include <vector>

#include "backend/cuda/stream.h"
#include "backend/device_runtime.h"

namespace mochi::cuda {

class StagedLoader final : public WeightLoader {
 public:
  // Loads to the GPU of this allocator.
  explicit StagedLoader(Allocator& device_allocator);

  void load(DType stored, std::span<const std::byte> bytes, const TensorView& target) override;
  void finish() override;

 private:
  struct Slot {
    Tensor host, device;
    Event is_free;
  };
  static constexpr std::size_t kNumSlots = 4;
  static constexpr std::size_t kSlotBytes = std::size_t{32} << 20;

  // Loads elements [first, first + bytes / element size) of the target.
  void load_chunk(DType stored, std::span<const std::byte> bytes, const TensorView& target,
                  std::size_t first);

  int device_index_;
  std::vector<Slot> slots_;
  std::size_t next_ = 0;
  Stream stream_;  // destroyed first, because its work may still use the slots
};

// target [num_elements], F32 or BF16, = stored floats. Both are on the device.
void convert_on_device(DType stored, const std::byte* source, DType wanted, std::byte* target,
                       std::int64_t num_elements, cudaStream_t stream);

}  // namespace mochi::cuda
