// Cooperation of a block's threads: named barriers, register counts, values that are uniform in a
// warp.
#pragma once

namespace mochi::cuda::device {

// Waits at barrier 1…15 (0 is __syncthreads). All counts are multiples of a warp.
__device__ inline void sync_threads(int barrier_idx, int num_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier_idx), "r"(num_threads) : "memory");
}

// Called by all warps of a warpgroup, in a kernel with __launch_bounds__(threads, 1) whose
// warpgroups have different roles. Counts are multiples of 8.
template <int kCount>
__device__ inline void raise_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ inline void lower_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}

// Returns true in one thread of the warp, always the same one.
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

// Returns threadIdx.x for the rarely executed part of a loop, so that nothing derived from it is
// computed before the loop and kept in registers.
__device__ inline int thread_idx_here() {
  int idx;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(idx));
  return idx;
}

// Does for another value what thread_idx_here() does for threadIdx.x.
__device__ inline unsigned value_here(unsigned value) {
  asm volatile("" : "+r"(value));
  return value;
}

// Returns the value of the warp's first thread, and thereby tells the compiler that it is uniform.
__device__ inline int warp_uniform(int value) { return __shfl_sync(0xffffffff, value, 0); }

__device__ inline unsigned cluster_rank() {
  unsigned rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// Waits for all threads of all blocks of the cluster.
__device__ inline void sync_cluster() {
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
}

}  // namespace mochi::cuda::device
