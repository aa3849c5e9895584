// Barriers in shared memory (compute capability 9.0). They count arrivals of threads and bytes
// written by the copy engine. A wait names the parity of the phase that must be over: 0 for the
// first.
#pragma once

#include <cstdint>

#include "backend/cuda/device/shared_memory.cuh"

namespace mochi::cuda::device {

using Barrier = std::uint64_t;

__device__ inline void init_barrier(Barrier* s_barrier, unsigned num_arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(s_barrier)),
               "r"(num_arrivals)
               : "memory");
}

// Called by the thread that initialised barriers, before the block's (or cluster's) barrier that
// publishes them.
__device__ inline void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ inline void arrive(Barrier* s_barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(s_barrier))
               : "memory");
}

// Arrives at the barrier at the same offset in the cluster's block `rank`. It does not publish
// ordinary writes, which would need an expensive fence of the whole cluster.
__device__ inline void arrive_at(Barrier* s_barrier, unsigned rank) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
      "}" ::"r"(shared_address(s_barrier)),
      "r"(rank)
      : "memory");
}

// Stores x at the same offset of shared memory in the cluster's block `rank`; the bytes arrive at
// that block's barrier. Threads that have waited for them there may read them.
__device__ inline void store_at(float2* s_target, float2 x, Barrier* s_barrier, unsigned rank) {
  asm volatile(
      "{\n"
      ".reg .b32 target, barrier;\n"
      "mapa.shared::cluster.u32 target, %0, %4;\n"
      "mapa.shared::cluster.u32 barrier, %3, %4;\n"
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [target], {%1, %2}, "
      "[barrier];\n"
      "}" ::"r"(shared_address(s_target)),
      "f"(x.x), "f"(x.y), "r"(shared_address(s_barrier)), "r"(rank)
      : "memory");
}

// Arrives and makes the phase expect num_bytes more.
__device__ inline void arrive_expecting(Barrier* s_barrier, unsigned num_bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(s_barrier)),
      "r"(num_bytes)
      : "memory");
}

__device__ inline bool is_phase_over(Barrier* s_barrier, unsigned parity) {
  unsigned is_over;
  asm volatile(
      "{\n"
      ".reg .pred over;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
      "selp.u32 %0, 1, 0, over;\n"
      "}"
      : "=r"(is_over)
      : "r"(shared_address(s_barrier)), "r"(parity)
      : "memory");
  return is_over != 0;
}

__device__ inline void wait(Barrier* s_barrier, unsigned parity) {
  while (!is_phase_over(s_barrier, parity)) {
  }
}

// The next stage of a ring and the parity of its phase.
template <int kStages>
struct Ring {
  int idx = 0;
  unsigned parity = 0;

  __device__ void advance() {
    if (++idx == kStages) {
      idx = 0;
      parity ^= 1;
    }
  }
};

}  // namespace mochi::cuda::device
