// Copies from global to shared memory that bypass the registers.
#pragma once

#include <cstddef>

#include "backend/cuda/device/mbarrier.cuh"

namespace mochi::cuda::device {

// Writes zeros instead unless `is_there`; g_source is then not read, but must still be an address.
__device__ inline void copy_16_bytes(void* s_target, const void* g_source, bool is_there = true) {
  const int num_bytes = is_there ? 16 : 0;
  asm volatile(
      "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(s_target)),
      "l"(g_source), "r"(num_bytes)
      : "memory");
}

__device__ inline void copy_4_bytes(void* s_target, const void* g_source) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(s_target)),
               "l"(g_source)
               : "memory");
}

// Returns g_base + row · kRowBytes. It is opaque to the compiler, which would otherwise add
// constants within g_base last, in separate instructions.
template <unsigned kRowBytes>
__device__ const std::byte* address_of_row(const std::byte* g_base, unsigned row) {
  const std::byte* g_row;
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(g_row) : "r"(row), "n"(kRowBytes), "l"(g_base));
  return g_row;
}

__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most kPending of this thread's groups are in progress.
template <int kPending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Makes this thread arrive when all copies that it started are complete. The barrier's number of
// arrivals includes this one.
__device__ inline void arrive_after_copies(Barrier* s_barrier) {
  asm volatile(
      "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(s_barrier))
      : "memory");
}

}  // namespace mochi::cuda::device
