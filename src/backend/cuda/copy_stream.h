// Copies in one direction between host and GPU, concurrent with the GPU's other work.
#pragma once

#include <array>

#include "backend/backend.h"
#include "backend/cuda/pinned_memory.h"

namespace mochi::cuda {

class CopyStream {
 public:
  // See Backend::prefetch and write_back. `compute` is the stream of all other work.
  void start(int slot, const TensorView& source, const TensorView& target, cudaStream_t compute);
  void await(int slot, cudaStream_t compute);

 private:
  Event may_begin_;
  std::array<Event, Backend::kNumPrefetchSlots> is_done_;
  Stream stream_;  // destroyed first, because its work may still use the members above
};

}  // namespace mochi::cuda
