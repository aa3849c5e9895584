// Copies between host and GPU beside the GPU's work, in one direction.
#pragma once

#include <array>

#include "backend/backend.h"
#include "backend/cuda/pinned_memory.h"

namespace mochi::cuda {

class CopyStream {
 public:
  // See Backend::prefetch and write_back; `compute` is the stream of everything else.
  void start(int slot, const TensorView& source, const TensorView& target, cudaStream_t compute);
  void await(int slot, cudaStream_t compute);

 private:
  Event may_begin_;
  std::array<Event, Backend::kNumPrefetchSlots> is_done_;
  Stream stream_;  // goes first: its work may still need the others
};

}  // namespace mochi::cuda
