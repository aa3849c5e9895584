// Pinned host memory, which all GPUs read directly.
#pragma once

#include "tensor/tensor.h"

namespace mochi::cuda {

// Returns the allocator that asks CUDA through the GPU of this index, so that no other GPU is
// woken. It lives as long as the process. Throws OutOfMemory if the host has no more memory.
Allocator& pinned_allocator(int device_index);

}  // namespace mochi::cuda
