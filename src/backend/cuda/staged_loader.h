// Stored weights → pinned memory → GPU, where they are converted: a ring of buffers, so that the
// host fills one while others are on their way.
#pragma once

#include <array>

#include "backend/backend.h"
#include "backend/cuda/pinned_memory.h"

namespace mochi::cuda {

class StagedLoader final : public WeightLoader {
 public:
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

  // Elements [first, first + bytes / element) of the target.
  void load_chunk(DType stored, std::span<const std::byte> bytes, const TensorView& target,
                  std::size_t first);

  std::array<Slot, kNumSlots> slots_;
  std::size_t next_ = 0;
  Stream stream_;  // goes first: its work may still need the slots
};

// target [num_elements] F32 or BF16 = stored floats, both on the device.
void convert_on_device(DType stored, const std::byte* source, DType wanted, std::byte* target,
                       std::int64_t num_elements, cudaStream_t stream);

}  // namespace mochi::cuda
