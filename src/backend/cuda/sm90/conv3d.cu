// One persistent kernel; docs/kernels/convolution.md has the reasoning and the numbers.
//
// The pixels of x, halo included, are one long list: every filter tap is a shift along it, and so
// is the output, in which the last kw − 1 pixels of each row are computed for nothing and not
// stored. A block computes 128 output channels × 256 consecutive pixels. Weights are the wgmma's
// first operand and pixels its second, so that few channels still fill the largest instruction. The
// kw taps of a filter row read one strip of pixels in shared memory, each from one pixel further
// on.
#include <cuda_bf16.h>

#include <algorithm>
#include <array>
#include <limits>

#include "backend/cuda/cuda_check.h"
#include "backend/cuda/device/cp_async.cuh"
#include "backend/cuda/device/mbarrier.cuh"
#include "backend/cuda/device/mma.cuh"
#include "backend/cuda/device/threads.cuh"
#include "backend/cuda/device/tma.cuh"
#include "backend/cuda/device/transposed_store.cuh"
#include "backend/cuda/device/wgmma.cuh"
#include "backend/cuda/sm90/conv3d.h"
#include "backend/cuda/sm90/tensor_map.h"

namespace mochi::cuda {
namespace {

using device::Barrier;

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

struct SharedMemory {
  unsigned char s_strips[kStrips][kStripBytes];
  unsigned char s_taps[kTaps][kTapBytes];
  unsigned char s_out[kConsumers][kOutBytes];
  Barrier strip_full[kStrips], strip_empty[kStrips];
  Barrier tap_full[kTaps], tap_empty[kTaps];
  Barrier out_ready[kConsumers];  // s_out holds the residual, or nothing that is needed
  Barrier out_full[kConsumers];   // s_out holds the result
  Barrier head_start;             // the first consumer is kHeadStart products ahead
};

struct Sizes {
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
struct Epilogue {
  const float* g_bias;
  const __nv_bfloat16* g_residual;
  __nv_bfloat16* g_out;
};

// Which stage of a ring comes next, and the parity of its phase.
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

struct Tile {
  int frame;
  int first_pixel;  // in the frame's list of pixels
  int first_channel;
};

// The tile of this block among those of its cluster's work item; channels change fastest, so that
// the clusters at work share pixels and weights in the L2 cache.
__device__ Tile find_tile(const Sizes& sizes, int item, int rank) {
  const int tile = item / sizes.channel_tiles * kClusterSize + rank;
  return {tile / sizes.frame_tiles, tile % sizes.frame_tiles * kTilePixels,
          item % sizes.channel_tiles * kTileChannels};
}

__device__ int num_items(const Sizes& sizes) {
  return (sizes.num_tiles + kClusterSize - 1) / kClusterSize * sizes.channel_tiles;
}

__device__ void produce(const CUtensorMap& strip_map, const CUtensorMap& overhang_map,
                        const CUtensorMap& tap_map, const Sizes& sizes, SharedMemory& s, int rank) {
  Ring<kStrips> strip;
  Ring<kTaps> tap;
  const unsigned strip_bytes =
      (kTilePixels + (sizes.kw > 1 ? kOverhang : 0)) * static_cast<unsigned>(kRowBytes);
  const int num_clusters = gridDim.x / kClusterSize;
  for (int item = blockIdx.x / kClusterSize; item < num_items(sizes); item += num_clusters) {
    const Tile tile = find_tile(sizes, item, rank);
    for (int filter_row = 0; filter_row < sizes.kt * sizes.kh; ++filter_row) {
      const int pixel = (tile.frame + filter_row / sizes.kh) * sizes.frame_pixels +
                        filter_row % sizes.kh * sizes.padded_columns + tile.first_pixel;
      for (int step = 0; step < sizes.depth_steps; ++step) {
        device::wait(&s.strip_empty[strip.idx], strip.parity ^ 1);
        device::arrive_expecting(&s.strip_full[strip.idx], strip_bytes);
        unsigned char* s_strip = s.s_strips[strip.idx];
        device::load_tile<2>(s_strip, strip_map, {step * kDepth, pixel}, &s.strip_full[strip.idx]);
        if (sizes.kw > 1) {
          device::load_tile<2>(s_strip + kTilePixels * kRowBytes, overhang_map,
                               {step * kDepth, pixel + kTilePixels}, &s.strip_full[strip.idx]);
        }
        strip.advance();
        for (int dx = 0; dx < sizes.kw; ++dx) {
          device::wait(&s.tap_empty[tap.idx], tap.parity ^ 1);
          device::arrive_expecting(&s.tap_full[tap.idx], kTapBytes);
          constexpr int kPart = kTileChannels / kClusterSize;
          device::load_tile_to(
              s.s_taps[tap.idx] + rank * kPart * kRowBytes, tap_map,
              {step * kDepth, filter_row * sizes.kw + dx, tile.first_channel + rank * kPart, 0},
              &s.tap_full[tap.idx], (1 << kClusterSize) - 1);
          tap.advance();
        }
      }
    }
  }
}

// Walks through the pixels of a tile in steps of kStep: where each lies in the output.
template <int kStep>
class PixelWalk {
 public:
  __device__ PixelWalk(const Sizes& sizes, const Tile& tile, int pixel)
      : columns_(sizes.padded_columns),
        row_((tile.first_pixel + pixel) / columns_),
        column_((tile.first_pixel + pixel) % columns_) {}

  __device__ bool is_there(const Sizes& sizes) const {
    return row_ < sizes.rows && column_ < sizes.columns;
  }
  __device__ std::int64_t offset(const Sizes& sizes, const Tile& tile) const {
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
__device__ void for_each_piece(const Sizes& sizes, const Tile& tile, int warpgroup, Fn&& fn) {
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
__device__ void store(const Sizes& sizes, const Epilogue& epilogue, SharedMemory& s, int rank) {
  const auto make_ready = [&](const Tile& tile, int warpgroup) {
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
    const Tile tile = find_tile(sizes, item, rank);
    item += num_clusters;
    const Tile next = find_tile(sizes, item, rank);
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

__device__ float low_half(std::uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ float high_half(std::uint32_t pair) { return __uint_as_float(pair & 0xFFFF0000U); }

// Adds bias and residual in fp32. A warp has 16 channels of all pixels; s_out, [pixel][64 channels]
// bf16, holds the residual and gets the result in its place.
template <int kNumSums>
__device__ void finish(const Epilogue& epilogue, const Sizes& sizes, int first_channel,
                       const float (&sums)[kNumSums], unsigned char* s_out) {
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

__device__ void consume(const Sizes& sizes, const Epilogue& epilogue, SharedMemory& s, int rank,
                        int warpgroup) {
  Ring<kStrips> strip;
  Ring<kTaps> tap;
  unsigned out_parity = 0;
  const int lane = threadIdx.x % 32;
  const int num_strips = sizes.kt * sizes.kh * sizes.depth_steps;
  // Counts down to the product before which the other consumer is let go.
  int head_start = warpgroup == 0 ? min(kHeadStart, sizes.kw) : -1;
  if (warpgroup != 0) device::wait(&s.head_start, 0);
  const int num_clusters = gridDim.x / kClusterSize;
  for (int item = blockIdx.x / kClusterSize; item < num_items(sizes); item += num_clusters) {
    float sums[kTilePixels / 2];
    // Stages are given back one product later, when it is known to be over.
    int former_tap = -1;
    int former_strip = -1;
    const auto give_back = [&] {
      if (former_tap >= 0 && lane < kClusterSize) device::arrive_at(&s.tap_empty[former_tap], lane);
      if (former_strip >= 0 && lane == 0) device::arrive(&s.strip_empty[former_strip]);
    };
    for (int i = 0; i < num_strips; ++i) {
      device::wait(&s.strip_full[strip.idx], strip.parity);
      const std::uint64_t pixels = device::describe_k_rows(s.s_strips[strip.idx]);
      for (int dx = 0; dx < sizes.kw; ++dx) {
        if (head_start-- == 0 && threadIdx.x == 0) device::arrive(&s.head_start);
        device::wait(&s.tap_full[tap.idx], tap.parity);
        const std::uint64_t weights =
            device::describe_k_rows(s.s_taps[tap.idx] + warpgroup * 64 * kRowBytes);
        // The swizzle follows the address, so a tile may begin at any row.
        const std::uint64_t shifted = device::advance(pixels, dx * kRowBytes);
        device::fence_products();
#pragma unroll
        for (int k = 0; k < kDepth / 16; ++k) {
          device::multiply(sums, device::advance(weights, k * 32), device::advance(shifted, k * 32),
                           (i | dx | k) != 0);
        }
        device::commit_products();
        device::wait_products<1>();
        give_back();
        former_tap = tap.idx;
        former_strip = dx + 1 == sizes.kw ? strip.idx : -1;
        tap.advance();
      }
      strip.advance();
    }
    device::wait_products<0>();
    device::hold(sums);
    give_back();
    const Tile tile = find_tile(sizes, item, rank);
    device::wait(&s.out_ready[warpgroup], out_parity);
    out_parity ^= 1;
    finish(epilogue, sizes, tile.first_channel + warpgroup * 64, sums, s.s_out[warpgroup]);
    device::arrive(&s.out_full[warpgroup]);
    if (head_start >= 0 && threadIdx.x == 0) device::arrive(&s.head_start);
    head_start = -1;
  }
}

__global__ void __cluster_dims__(kClusterSize) __launch_bounds__(kThreads, 1)
    conv3d_kernel(const __grid_constant__ CUtensorMap strip_map,
                  const __grid_constant__ CUtensorMap overhang_map,
                  const __grid_constant__ CUtensorMap tap_map, const Sizes sizes,
                  const Epilogue epilogue) {
  extern __shared__ __align__(kAlignment) unsigned char s_raw[];
  auto& s = *reinterpret_cast<SharedMemory*>(s_raw);
  const int rank = static_cast<int>(device::cluster_rank());
  const int warpgroup = device::warp_uniform(threadIdx.x / 128);
  if (threadIdx.x == 0) {
    if (device::shared_address(s_raw) % kAlignment != 0) __trap();
    for (int i = 0; i < kStrips; ++i) {
      device::init_barrier(&s.strip_full[i], 1);
      device::init_barrier(&s.strip_empty[i], kConsumers * 4);
    }
    for (int i = 0; i < kTaps; ++i) {
      device::init_barrier(&s.tap_full[i], 1);
      device::init_barrier(&s.tap_empty[i], kConsumers * 4 * kClusterSize);
    }
    for (int i = 0; i < kConsumers; ++i) {
      device::init_barrier(&s.out_ready[i], kStorers);
      device::init_barrier(&s.out_full[i], 128);
    }
    device::init_barrier(&s.head_start, 1);
    device::fence_barrier_init();
  }
  device::sync_cluster();
  if (warpgroup == kConsumers) {
    device::lower_registers<kProducerRegisters>();
    if (device::warp_uniform(threadIdx.x % 128 / 32) > 0) {
      store(sizes, epilogue, s, rank);
    } else if (device::is_elected()) {
      produce(strip_map, overhang_map, tap_map, sizes, s, rank);
    }
    __syncwarp();
  } else {
    device::raise_registers<kConsumerRegisters>();
    consume(sizes, epilogue, s, rank, warpgroup);
  }
  // A block must outlive what its neighbour sends it.
  device::sync_cluster();
}

Sizes find_sizes(const HopperConv3d& conv) {
  const auto ceil_divide = [](std::int64_t a, std::int64_t b) {
    return static_cast<int>((a + b - 1) / b);
  };
  Sizes sizes{};
  sizes.frames = static_cast<int>(conv.frames) - conv.kt + 1;
  sizes.rows = static_cast<int>(conv.rows) - conv.kh + 1;
  sizes.columns = static_cast<int>(conv.columns) - conv.kw + 1;
  sizes.padded_columns = static_cast<int>(conv.columns);
  sizes.frame_pixels = static_cast<int>(conv.rows * conv.columns);
  sizes.frame_tiles = ceil_divide(sizes.rows * conv.columns - (conv.kw - 1), kTilePixels);
  sizes.num_tiles = sizes.frames * sizes.frame_tiles;
  sizes.channel_tiles = ceil_divide(conv.out_channels, kTileChannels);
  sizes.out_channels = static_cast<int>(conv.out_channels);
  sizes.depth_steps = ceil_divide(conv.in_channels, kDepth);
  sizes.kt = conv.kt;
  sizes.kh = conv.kh;
  sizes.kw = conv.kw;
  return sizes;
}

}  // namespace

bool suits_hopper(const HopperConv3d& conv) {
  constexpr std::int64_t kMax = std::numeric_limits<int>::max() / 2;  // leaves room behind the end
  const auto is_aligned = [](const void* pointer) {
    return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
  };
  return conv.in_channels % 8 == 0 && conv.out_channels % 8 == 0 && conv.kw <= kOverhang + 1 &&
         conv.frames * conv.rows * conv.columns <= kMax && conv.out_channels <= 1 << 16 &&
         is_aligned(conv.g_x) && is_aligned(conv.g_weight) && is_aligned(conv.g_out) &&
         is_aligned(conv.g_residual);
}

void launch_hopper_conv3d(const HopperConv3d& conv, int num_multiprocessors, cudaStream_t stream) {
  constexpr int kSharedBytes = sizeof(SharedMemory);
  const Sizes sizes = find_sizes(conv);
  const std::int64_t pixel_bytes = conv.in_channels * 2;
  const std::int64_t num_taps = std::int64_t{conv.kt} * conv.kh * conv.kw;
  const std::array<std::int64_t, 2> pixel_sizes{conv.in_channels,
                                                conv.frames * conv.rows * conv.columns};
  const std::array<std::int64_t, 1> pixel_strides{pixel_bytes};
  const CUtensorMap strip_map = make_tensor_map(conv.g_x, pixel_sizes, pixel_strides,
                                                std::array<int, 2>{kDepth, kTilePixels});
  const CUtensorMap overhang_map =
      make_tensor_map(conv.g_x, pixel_sizes, pixel_strides, std::array<int, 2>{kDepth, kOverhang});
  // Of rank 4 for the sake of load_tile_to.
  const CUtensorMap tap_map = make_tensor_map(
      conv.g_weight, std::array<std::int64_t, 4>{conv.in_channels, num_taps, conv.out_channels, 1},
      std::array<std::int64_t, 3>{pixel_bytes, num_taps * pixel_bytes,
                                  num_taps * pixel_bytes * conv.out_channels},
      std::array<int, 4>{kDepth, 1, kTileChannels / kClusterSize, 1});
  check(cudaFuncSetAttribute(conv3d_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kSharedBytes),
        "asking for shared memory");
  const int num_items = (sizes.num_tiles + kClusterSize - 1) / kClusterSize * sizes.channel_tiles;
  const int num_clusters = std::min(num_items, num_multiprocessors / kClusterSize);
  conv3d_kernel<<<static_cast<unsigned>(num_clusters * kClusterSize), kThreads, kSharedBytes,
                  stream>>>(strip_map, overhang_map, tap_map, sizes,
                            {conv.g_bias, static_cast<const __nv_bfloat16*>(conv.g_residual),
                             static_cast<__nv_bfloat16*>(conv.g_out)});
  check_launch("conv3d");
}

}  // namespace mochi::cuda
