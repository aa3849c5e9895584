// Building blocks of the convolution on Hopper: tiles, the blocks' shared memory, and the epilogue.
// conv3d.cu has the kernel and its reasons.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "backend/cuda/device/cp_async.cuh"
#include "backend/cuda/device/mbarrier.cuh"
#include "backend/cuda/device/mma.cuh"
#include "backend/cuda/device/shared_memory.cuh"
#include "backend/cuda/device/transposed_store.cuh"

namespace mochi::cuda::sm90 {

using device::Barrier;
using device::Ring;

// The sizes of a kernel's tiles, which are template arguments of everything that depends on them.
struct Conv3dTile {
  static constexpr int kTileChannels = 128;  // two consumer warpgroups of 64
  static constexpr int kTilePixels = 256;
  static constexpr int kDepth = 64;  // input channels of one stage
  // Extra pixels of a strip after its tile, for the taps of a row.
  static constexpr int kOverhang = 8;
  // Blocks that share their weights; each loads half of them.
  static constexpr int kClusterSize = 2;
  static constexpr int kStrips = 2;  // number of pixel stages
  static constexpr int kTaps = 6;    // number of weight stages
  static constexpr int kConsumers = 2;
  // Lets one consumer multiply while the other finishes its tile.
  static constexpr int kHeadStart = 1;
  static constexpr int kStorers = 96;  // threads that store results, in three warps
  static constexpr int kThreads = 128 * (kConsumers + 1);
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;

  static constexpr int kRowBytes = kDepth * 2;
  static constexpr int kTapBytes = kTileChannels * kRowBytes;
  static constexpr int kStripBytes = (kTilePixels + kOverhang) * kRowBytes;
  static constexpr int kOutBytes = kTilePixels * 64 * 2;  // results of one warpgroup
  static constexpr int kAlignment = 1024;  // alignment of tiles in the 128-byte swizzle
};

template <typename Tile>
struct ConvMemory {
  unsigned char s_strips[Tile::kStrips][Tile::kStripBytes];
  unsigned char s_taps[Tile::kTaps][Tile::kTapBytes];
  unsigned char s_out[Tile::kConsumers][Tile::kOutBytes];
  Barrier strip_full[Tile::kStrips], strip_empty[Tile::kStrips];
  Barrier tap_full[Tile::kTaps], tap_empty[Tile::kTaps];
  // s_out holds the residual, or data that is no longer needed.
  Barrier out_ready[Tile::kConsumers];
  Barrier out_full[Tile::kConsumers];  // s_out holds the result
  Barrier head_start;                  // the first consumer is kHeadStart products ahead
};

struct ConvSizes {
  int frames, rows, columns;  // sizes of the output
  int padded_columns;         // columns of x
  int frame_pixels;           // pixels of a frame of x
  int frame_tiles;            // tiles per frame
  int num_tiles;              // tiles in total
  int channel_tiles;
  int out_channels;
  int depth_steps;  // ⌈in_channels / kDepth⌉
  int kt, kh, kw;
};

// Inputs and output of the epilogue.
struct ConvEpilogue {
  const float* g_bias;
  const __nv_bfloat16* g_residual;
  __nv_bfloat16* g_out;
};

struct ConvPosition {
  int frame;
  int first_pixel;  // index in the frame's list of pixels
  int first_channel;
};

// Returns this block's tile of its cluster's work item. Channels change fastest, so that clusters
// that run together share pixels and weights in the L2 cache.
template <typename Tile>
__device__ inline ConvPosition find_tile(const ConvSizes& sizes, int item, int rank) {
  const int tile = item / sizes.channel_tiles * Tile::kClusterSize + rank;
  return {tile / sizes.frame_tiles, tile % sizes.frame_tiles * Tile::kTilePixels,
          item % sizes.channel_tiles * Tile::kTileChannels};
}

template <typename Tile>
__device__ inline int num_items(const ConvSizes& sizes) {
  return (sizes.num_tiles + Tile::kClusterSize - 1) / Tile::kClusterSize * sizes.channel_tiles;
}

// Walks through the pixels of a tile in steps of kStep and computes the position of each in the
// output.
template <int kStep>
class PixelWalk {
 public:
  __device__ PixelWalk(const ConvSizes& sizes, const ConvPosition& tile, int pixel)
      : columns_(sizes.padded_columns),
        row_((tile.first_pixel + pixel) / columns_),
        column_((tile.first_pixel + pixel) % columns_) {}

  __device__ bool is_there(const ConvSizes& sizes) const {
    return row_ < sizes.rows && column_ < sizes.columns;
  }
  __device__ std::int64_t offset(const ConvSizes& sizes, const ConvPosition& tile) const {
    const std::int64_t row = static_cast<std::int64_t>(tile.frame) * sizes.rows + row_;
    return (row * sizes.columns + column_) * sizes.out_channels;
  }
  __device__ void advance() {
    column_ += kStep;
    while (column_ >= columns_) {
      column_ -= columns_;
      ++row_;
    }
  }

 private:
  int columns_, row_, column_;
};

// Calls fn(byte offset in s_out, element offset in the output) for the 16-byte pieces of one
// warpgroup's results that this storing thread handles and that are part of the output.
template <typename Tile, typename Fn>
__device__ inline void for_each_piece(const ConvSizes& sizes, const ConvPosition& tile,
                                      int warpgroup, Fn&& fn) {
  const int thread = threadIdx.x % 128 - 32;
  const int piece = thread % 8;
  const int channel = tile.first_channel + warpgroup * 64 + piece * 8;
  if (tile.frame >= sizes.frames || channel >= sizes.out_channels) return;
  constexpr int kStep = Tile::kStorers / 8;
  PixelWalk<kStep> walk(sizes, tile, thread / 8);
#pragma unroll 4
  for (int pixel = thread / 8; pixel < Tile::kTilePixels; pixel += kStep) {
    if (walk.is_there(sizes)) {
      fn(device::swizzled_128b(pixel, piece), walk.offset(sizes, tile) + channel);
    }
    walk.advance();
  }
}

// The work of the storing warps: they load the residual of a tile to shared memory before its
// results arrive, and store the results while the next tile is computed.
template <typename Tile>
__device__ inline void store(const ConvSizes& sizes, const ConvEpilogue& epilogue,
                             ConvMemory<Tile>& s, int rank) {
  const auto make_ready = [&](const ConvPosition& tile, int warpgroup) {
    if (epilogue.g_residual != nullptr) {
      for_each_piece<Tile>(sizes, tile, warpgroup, [&](unsigned from, std::int64_t offset) {
        device::copy_16_bytes(s.s_out[warpgroup] + from, epilogue.g_residual + offset);
      });
    }
    device::arrive_after_copies(&s.out_ready[warpgroup]);
  };
  const int num_clusters = gridDim.x / Tile::kClusterSize;
  int item = blockIdx.x / Tile::kClusterSize;
  if (item >= num_items<Tile>(sizes)) return;
  for (int i = 0; i < Tile::kConsumers; ++i) make_ready(find_tile<Tile>(sizes, item, rank), i);
  for (unsigned parity = 0; item < num_items<Tile>(sizes); parity ^= 1) {
    const ConvPosition tile = find_tile<Tile>(sizes, item, rank);
    item += num_clusters;
    const ConvPosition next = find_tile<Tile>(sizes, item, rank);
    for (int i = 0; i < Tile::kConsumers; ++i) {
      device::wait(&s.out_full[i], parity);
      for_each_piece<Tile>(sizes, tile, i, [&](unsigned from, std::int64_t offset) {
        *reinterpret_cast<uint4*>(epilogue.g_out + offset) =
            *reinterpret_cast<const uint4*>(s.s_out[i] + from);
      });
      // Each thread overwrites only the pieces that it has read itself.
      if (item < num_items<Tile>(sizes)) make_ready(next, i);
    }
  }
}

__device__ inline float low_half(std::uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float high_half(std::uint32_t pair) {
  return __uint_as_float(pair & 0xFFFF0000U);
}

// Adds bias and residual in fp32. A warp has 16 channels of all pixels. s_out, [pixel][64 channels]
// bf16, holds the residual, which the result replaces.
template <int kNumSums>
__device__ inline void finish(const ConvEpilogue& epilogue, const ConvSizes& sizes,
                              int first_channel, const float (&sums)[kNumSums],
                              unsigned char* s_out) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x % 128 / 32;
  const int channel = first_channel + warp * 16 + lane / 4;
  float bias[2] = {};
  if (epilogue.g_bias != nullptr) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (channel + 8 * i < sizes.out_channels) bias[i] = epilogue.g_bias[channel + 8 * i];
    }
  }
  const bool has_residual = epilogue.g_residual != nullptr;
#pragma unroll
  for (int j = 0; j < kNumSums / 8; ++j) {  // 16 pixels: four matrices of 8 pixels × 8 channels
    const int pixel = j * 16 + lane / 16 * 8 + lane % 8;
    unsigned char* s_row = s_out + device::swizzled_128b(pixel, 2 * warp + lane / 8 % 2);
    std::uint32_t packed[4] = {};
    if (has_residual) device::load_matrices_transposed(packed, s_row);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* pair = sums + j * 8 + 2 * i;
      packed[i] = device::pack_bf16(pair[0] + bias[i % 2] + low_half(packed[i]),
                                    pair[1] + bias[i % 2] + high_half(packed[i]));
    }
    device::store_matrices_transposed(s_row, packed);
  }
}

}  // namespace mochi::cuda::sm90
