// Copies to the GPU beside its work.
#pragma once

#include <array>

#include "backend/backend.h"
#include "backend/cuda/pinned_memory.h"

namespace mochi::cuda {

class PrefetchStream {
 public:
  // See Backend::prefetch; `compute` is the stream of everything else.
  void start(int slot, const TensorView& host, const TensorView& target, cudaStream_t compute);
  void await(int slot, cudaStream_t compute);

 private:
  Event target_is_free_;
  std::array<Event, Backend::kNumPrefetchSlots> is_done_;
  Stream stream_;  // goes first: its work may still need the others
};

}  // namespace mochi::cuda
