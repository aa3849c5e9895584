// What the convolution on Hopper is made of: its tiles, the blocks' shared memory, and the way of
// the results to the output. The kernel, and why it is so: conv3d.cu.
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

constexpr int kTileChannels = 128;  // two consumer warpgroups of 64
constexpr int kTilePixels = 256;
constexpr int kDepth = 64;       // input channels of one stage
constexpr int kOverhang = 8;     // pixels of a strip behind its tile, for the taps of a row
constexpr int kClusterSize = 2;  // blocks that share their weights, each loading half of them
constexpr int kStrips = 2;       // stages of pixels
constexpr int kTaps = 6;         // stages of weights
constexpr int kConsumers = 2;
constexpr int kHeadStart = 1;  // one consumer's products go on while the other finishes its tile
constexpr int kStorers = 96;   // threads that carry results away, in three warps
constexpr int kThreads = 128 * (kConsumers + 1);
constexpr int kProducerRegisters = 40;
constexpr int kConsumerRegisters = 232;

constexpr int kRowBytes = kDepth * 2;
constexpr int kTapBytes = kTileChannels * kRowBytes;
constexpr int kStripBytes = (kTilePixels + kOverhang) * kRowBytes;
constexpr int kOutBytes = kTilePixels * 64 * 2;  // of one warpgroup
constexpr int kAlignment = 1024;                 // of tiles in the 128-byte swizzle

struct ConvMemory {
  unsigned char s_strips[kStrips][kStripBytes];
  unsigned char s_taps[kTaps][kTapBytes];
  unsigned char s_out[kConsumers][kOutBytes];
  Barrier strip_full[kStrips], strip_empty[kStrips];
  Barrier tap_full[kTaps], tap_empty[kTaps];
  Barrier out_ready[kConsumers];  // s_out holds the residual, or nothing that is needed
  Barrier out_full[kConsumers];   // s_out holds the result
  Barrier head_start;             // the first consumer is kHeadStart products ahead
};

struct ConvSizes {
  int frames, rows, columns;  // of the output
  int padded_columns;         // of x
  int frame_pixels;           // of x
  int frame_tiles;            // per frame
  int num_tiles;              // in all
  int channel_tiles;
  int out_channels;
  int depth_steps;  // ⌈in_channels / kDepth⌉
  int kt, kh, kw;
};

// What the epilogue reads and writes.
struct ConvEpilogue {
  const float* g_bias;
  const __nv_bfloat16* g_residual;
  __nv_bfloat16* g_out;
};

struct ConvTile {
  int frame;
  int first_pixel;  // in the frame's list of pixels
  int first_channel;
};

// The tile of this block among those of its cluster's work item; channels change fastest, so that
// the clusters at work share pixels and weights in the L2 cache.
__device__ inline ConvTile find_tile(const ConvSizes& sizes, int item, int rank) {
  const int tile = item / sizes.channel_tiles * kClusterSize + rank;
  return {tile / sizes.frame_tiles, tile % sizes.frame_tiles * kTilePixels,
          item % sizes.channel_tiles * kTileChannels};
}

__device__ inline int num_items(const ConvSizes& sizes) {
  return (sizes.num_tiles + kClusterSize - 1) / kClusterSize * sizes.channel_tiles;
}

// Walks through the pixels of a tile in steps of kStep: where each lies in the output.
template <int kStep>
class PixelWalk {
 public:
  __device__ PixelWalk(const ConvSizes& sizes, const ConvTile& tile, int pixel)
      : columns_(sizes.padded_columns),
        row_((tile.first_pixel + pixel) / columns_),
        column_((tile.first_pixel + pixel) % columns_) {}

  __device__ bool is_there(const ConvSizes& sizes) const {
    return row_ < sizes.rows && column_ < sizes.columns;
  }
  __device__ std::int64_t offset(const ConvSizes& sizes, const ConvTile& tile) const {
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

// Calls fn(byte offset in s_out, element offset in the output) for those 16-byte pieces of one
// warpgroup's results that are this storing thread's and belong to the output.
template <typename Fn>
__device__ inline void for_each_piece(const ConvSizes& sizes, const ConvTile& tile, int warpgroup,
                                      Fn&& fn) {
  const int thread = threadIdx.x % 128 - 32;
  const int piece = thread % 8;
  const int channel = tile.first_channel + warpgroup * 64 + piece * 8;
  if (tile.frame >= sizes.frames || channel >= sizes.out_channels) return;
  constexpr int kStep = kStorers / 8;
  PixelWalk<kStep> walk(sizes, tile, thread / 8);
#pragma unroll 4
  for (int pixel = thread / 8; pixel < kTilePixels; pixel += kStep) {
    if (walk.is_there(sizes)) {
      fn(device::swizzled_128b(pixel, piece), walk.offset(sizes, tile) + channel);
    }
    walk.advance();
  }
}

// The warps beside the producer: they bring the residual of a tile to shared memory ahead of its
// results, and carry the results away while the next tile is computed.
__device__ inline void store(const ConvSizes& sizes, const ConvEpilogue& epilogue, ConvMemory& s,
                             int rank) {
  const auto make_ready = [&](const ConvTile& tile, int warpgroup) {
    if (epilogue.g_residual != nullptr) {
      for_each_piece(sizes, tile, warpgroup, [&](unsigned from, std::int64_t offset) {
        device::copy_16_bytes(s.s_out[warpgroup] + from, epilogue.g_residual + offset);
      });
    }
    device::arrive_after_copies(&s.out_ready[warpgroup]);
  };
  const int num_clusters = gridDim.x / kClusterSize;
  int item = blockIdx.x / kClusterSize;
  if (item >= num_items(sizes)) return;
  for (int i = 0; i < kConsumers; ++i) make_ready(find_tile(sizes, item, rank), i);
  for (unsigned parity = 0; item < num_items(sizes); parity ^= 1) {
    const ConvTile tile = find_tile(sizes, item, rank);
    item += num_clusters;
    const ConvTile next = find_tile(sizes, item, rank);
    for (int i = 0; i < kConsumers; ++i) {
      device::wait(&s.out_full[i], parity);
      for_each_piece(sizes, tile, i, [&](unsigned from, std::int64_t offset) {
        *reinterpret_cast<uint4*>(epilogue.g_out + offset) =
            *reinterpret_cast<const uint4*>(s.s_out[i] + from);
      });
      // Each thread overwrites only what it has read.
      if (item < num_items(sizes)) make_ready(next, i);
    }
  }
}

__device__ inline float low_half(std::uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float high_half(std::uint32_t pair) {
  return __uint_as_float(pair & 0xFFFF0000U);
}

// Adds bias and residual in fp32. A warp has 16 channels of all pixels; s_out, [pixel][64 channels]
// bf16, holds the residual and gets the result in its place.
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
