// Building blocks of the fused matmuls on Hopper: tiles, the blocks' shared memory, and the
// epilogue's access to the results. fused_linear.cu has the kernel and its reasons.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "backend/cuda/device/mbarrier.cuh"
#include "backend/cuda/device/mma.cuh"
#include "backend/cuda/device/shared_memory.cuh"
#include "backend/cuda/device/threads.cuh"
#include "backend/cuda/device/tma.cuh"

namespace mochi::cuda::sm90 {

using device::Barrier;
using device::Ring;

// Operands in BF16.
struct BF16Operands {
  static constexpr bool kIsQuantised = false;
  using Sum = float;
};

// Operands in I8, with a scale for each row of x and of the weight.
struct I8Operands {
  static constexpr bool kIsQuantised = true;
  using Sum = int;
};

// The sizes of a kernel's tiles, which are template arguments of everything that depends on them.
template <typename OperandsOfTile>
struct LinearTile {
  using Operands = OperandsOfTile;
  static constexpr int kTileRows = 128;  // rows of x, for two consumer warpgroups of 64
  static constexpr int kHalf = 128;      // rows of the weight in one half of a tile
  // Depth of one stage, in units of two bytes: the copy engine moves 8-bit operands in pairs.
  static constexpr int kDepth = 64;
  static constexpr int kProducts = 4;  // products of one stage, of 32 bytes along k each
  static constexpr int kStages = 3;
  static constexpr int kClusterSize = 2;  // blocks that share their weights; each loads one half
  static constexpr int kConsumers = 2;
  static constexpr int kConsumerRows = kTileRows / kConsumers;
  static constexpr int kThreads = 128 * (kConsumers + 1);
  // Threads that turn results into the output, in three warps.
  static constexpr int kFinishers = 96;
  static constexpr int kOtherRegisters = 88;
  static constexpr int kConsumerRegisters = 208;
  static constexpr int kSize = 8;               // results of one thread at a time, per half
  static constexpr int kLanes = kHalf / kSize;  // threads that share a row of a half

  static constexpr int kRowBytes = kDepth * 2;
  static constexpr int kTileBytes = kTileRows * kRowBytes;
  static constexpr int kHalfBytes = kHalf * kRowBytes;
  static constexpr int kPanelBytes = kConsumerRows * 128;  // 64 columns of results
  static constexpr int kOutBytes = 4 * kPanelBytes;        // results of one consumer
  static constexpr int kAlignment = 1024;  // alignment of tiles in the 128-byte swizzle
};

template <typename Tile>
struct LinearMemory {
  unsigned char s_x[Tile::kStages][Tile::kTileBytes];
  unsigned char s_weight[Tile::kStages][2 * Tile::kHalfBytes];
  unsigned char s_out[Tile::kConsumers][Tile::kOutBytes];
  // Scales of the weight's rows of one tile.
  float s_scales[Tile::kConsumers][Tile::Operands::kIsQuantised ? 2 * Tile::kHalf : 1];
  Barrier full[Tile::kStages], empty[Tile::kStages];
  Barrier out_full[Tile::kConsumers], out_empty[Tile::kConsumers];
};

struct LinearSizes {
  int row_tiles;     // tiles of a cluster: kClusterSize · kTileRows rows
  int column_tiles;  // pairs of halves
  int depth_steps;   // ⌈k / (elements of a stage)⌉
};

struct LinearPosition {
  int first_row;
  int column_idx;
};

// Returns this block's tile of its cluster's work item. The order keeps the rows of x and of the
// weight that running clusters use in the L2 cache: a group of row tiles passes through the whole
// weight before the next group starts.
template <typename Tile>
__device__ inline LinearPosition find_tile(const LinearSizes& sizes, int item, int rank) {
  constexpr int kGroup = 8;
  const int group = item / (kGroup * sizes.column_tiles);
  const int rest = item - group * kGroup * sizes.column_tiles;
  const int group_size = min(kGroup, sizes.row_tiles - group * kGroup);
  const int row_tile = group * kGroup + rest % group_size;
  return {(row_tile * Tile::kClusterSize + rank) * Tile::kTileRows, rest / group_size};
}

// The scales of one consumer thread's sums.
struct SumScales {
  float of_rows[2];        // for its two rows of x
  const float* s_columns;  // for the rows of the weight

  // Returns the product of rows · columns for sums[i] of the thread.
  __device__ float at(int i) const {
    const int column = i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
    return of_rows[i / 2 % 2] * s_columns[column];
  }
};

// Called by a consumer: writes its sums, which are in wgmma's layout, as bf16 to its part of s_out.
template <typename Tile>
__device__ inline void store_sums(const typename Tile::Operands::Sum (&sums)[Tile::kHalf],
                                  const SumScales& scales, unsigned char* s_out) {
  const int thread = device::thread_idx_here() % 128;
  const int lane = thread % 32;
  const int row = thread / 32 * 16 + lane % 16;
#pragma unroll
  for (int j = 0; j < Tile::kHalf / 8; ++j) {  // 16 columns: four matrices of 8 rows × 8 columns
    const int chunk = 2 * j + lane / 16;
    float part[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      part[i] = static_cast<float>(sums[8 * j + i]);
      if constexpr (Tile::Operands::kIsQuantised) part[i] *= scales.at(8 * j + i);
    }
    const std::uint32_t packed[4] = {
        device::pack_bf16(part[0], part[1]), device::pack_bf16(part[2], part[3]),
        device::pack_bf16(part[4], part[5]), device::pack_bf16(part[6], part[7])};
    device::store_matrices(
        s_out + chunk / 8 * Tile::kPanelBytes + device::swizzled_128b(row, chunk % 8), packed);
  }
}

// Returns 8 of a row's results in one half, which store_sums() has written.
template <typename Tile>
__device__ inline uint4 read_results(const unsigned char* s_out, int half, int row, int chunk) {
  const unsigned char* s_panel = s_out + (half * 2 + chunk / 8) * Tile::kPanelBytes;
  return *reinterpret_cast<const uint4*>(s_panel + device::swizzled_128b(row, chunk % 8));
}

}  // namespace mochi::cuda::sm90
