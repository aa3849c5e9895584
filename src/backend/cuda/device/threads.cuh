// Threads of a block among each other: named barriers, registers, the warp that is all of one mind.
#pragma once

namespace mochi::cuda::device {

// Barriers 1…15 (0 is __syncthreads). All counts are multiples of a warp.
__device__ inline void sync_threads(int barrier_idx, int num_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier_idx), "r"(num_threads) : "memory");
}

// All warps of a warpgroup, each in one role of a kernel with __launch_bounds__(threads, 1); the
// counts are multiples of 8.
template <int kCount>
__device__ inline void raise_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ inline void lower_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}

// True in one thread of the warp, always the same.
__device__ inline bool is_elected() {
  unsigned is_one;
  asm volatile(
      "{\n"
      ".reg .pred one;\n"
      "elect.sync _|one, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, one;\n"
      "}"
      : "=r"(is_one));
  return is_one != 0;
}

// threadIdx.x for the seldom part of a loop: nothing that follows from it is computed ahead of the
// loop and kept in registers.
__device__ inline int thread_idx_here() {
  int idx;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(idx));
  return idx;
}

// The same for another value.
__device__ inline unsigned value_here(unsigned value) {
  asm volatile("" : "+r"(value));
  return value;
}

// The value of the warp's first thread; tells the compiler that it is the same in all.
__device__ inline int warp_uniform(int value) { return __shfl_sync(0xffffffff, value, 0); }

__device__ inline unsigned cluster_rank() {
  unsigned rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// All threads of all blocks of the cluster.
__device__ inline void sync_cluster() {
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
}

}  // namespace mochi::cuda::device
