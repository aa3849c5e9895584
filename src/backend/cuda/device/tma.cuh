// The copy engine for tiles (compute capability 9.0). Tensor maps are __grid_constant__ parameters
// of the kernel, and one thread starts a copy. Coordinates are in elements, fastest dimension
// first; elements out of range are read as zero.
#pragma once

#include <cuda.h>

#include "backend/cuda/device/mbarrier.cuh"

namespace mochi::cuda::device {

__device__ inline void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// Copies a box to shared memory; its bytes count towards the barrier's phase. s_target is aligned
// to 1024 bytes if the map swizzles by 128 bytes, else to 128.
template <int kRank>
__device__ inline void load_tile(void* s_target, const CUtensorMap& map, const int (&at)[kRank],
                                 Barrier* s_barrier) {
  static_assert(kRank >= 2 && kRank <= 5);
  const std::uint32_t target = shared_address(s_target);
  const std::uint32_t barrier = shared_address(s_barrier);
  if constexpr (kRank == 2) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4}], [%2];" ::"r"(target),
        "l"(&map), "r"(barrier), "r"(at[0]), "r"(at[1])
        : "memory");
  } else if constexpr (kRank == 3) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(target),
        "l"(&map), "r"(barrier), "r"(at[0]), "r"(at[1]), "r"(at[2])
        : "memory");
  } else if constexpr (kRank == 4) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(target),
        "l"(&map), "r"(barrier), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3])
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(target),
        "l"(&map), "r"(barrier), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4])
        : "memory");
  }
}

// Copies a box to the same offset in every block of the cluster whose bit is set in `blocks`; each
// block's barrier counts its bytes.
__device__ inline void load_tile_to(void* s_target, const CUtensorMap& map, const int (&at)[4],
                                    Barrier* s_barrier, std::uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(shared_address(s_target)),
      "l"(&map), "r"(shared_address(s_barrier)), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]),
      "h"(blocks)
      : "memory");
}

}  // namespace mochi::cuda::device
