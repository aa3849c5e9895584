// The limit of a kernel's dynamic shared memory.
#pragma once

namespace mochi::cuda {

// Allows a kernel this many bytes of dynamic shared memory per block on the current GPU. CUDA is
// called once for each kernel, GPU and larger size. Thread-safe.
void allow_shared_memory(const void* kernel, int num_bytes);

template <typename... Arguments>
void allow_shared_memory(void (*kernel)(Arguments...), int num_bytes) {
  allow_shared_memory(reinterpret_cast<const void*>(kernel), num_bytes);
}

}  // namespace mochi::cuda
