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
constexpr int kStrips = 3;       // stages of pixels
constexpr int kTaps = 5;         // stages of weights
constexpr int kConsumers = 2;
constexpr int kThreads = 128 * (kConsumers + 1);
constexpr int kProducerRegisters = 40;
constexpr int kConsumerRegisters = 232;

constexpr int kRowBytes = kDepth * 2;
constexpr int kStripBytes = (kTilePixels + kOverhang) * kRowBytes;
constexpr int kTapBytes = kTileChannels * kRowBytes;
constexpr int kPassPixels = 128;  // that the epilogue handles at a time
constexpr int kPassBytes = kPassPixels * 64 * 2;

struct SharedMemory {
  unsigned char s_strips[kStrips][kStripBytes];
  unsigned char s_taps[kTaps][kTapBytes];
  unsigned char s_passes[kConsumers][kPassBytes];
  Barrier strip_full[kStrips], strip_empty[kStrips];
  Barrier tap_full[kTaps], tap_empty[kTaps];
};
constexpr int kAlignment = 1024;
constexpr int kSharedBytes = sizeof(SharedMemory) + kAlignment;

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

// Where a pass's 16-byte piece `i` (of 8 channels) of a pixel lies in global memory; none for
// pixels that are not there.
__device__ std::int64_t find_piece(const Sizes& sizes, const Tile& tile, int pixel, int channel) {
  const int row = pixel / sizes.padded_columns;
  const int column = pixel % sizes.padded_columns;
  const bool is_there = tile.frame < sizes.frames && row < sizes.rows && column < sizes.columns &&
                        channel < sizes.out_channels;
  if (!is_there) return -1;
  return ((static_cast<std::int64_t>(tile.frame) * sizes.rows + row) * sizes.columns + column) *
             sizes.out_channels +
         channel;
}

// The residual of one pass of one warpgroup on its way to shared memory, [pixel][64 channels].
__device__ void start_residual(const Epilogue& epilogue, const Sizes& sizes, const Tile& tile,
                               int warpgroup, int pass, unsigned char* s_pass) {
  const int thread = threadIdx.x % 128;
#pragma unroll
  for (int i = 0; i < kPassPixels / 16; ++i) {
    const int pixel = i * 16 + thread / 8;
    const int piece = thread % 8;
    const std::int64_t offset =
        find_piece(sizes, tile, tile.first_pixel + pass * kPassPixels + pixel,
                   tile.first_channel + warpgroup * 64 + piece * 8);
    device::copy_16_bytes(s_pass + device::swizzled_128b(pixel, piece),
                          epilogue.g_residual + (offset < 0 ? 0 : offset), offset >= 0);
  }
  device::commit_copies();
}

__device__ float low_half(std::uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ float high_half(std::uint32_t pair) { return __uint_as_float(pair & 0xFFFF0000U); }

// Bias and residual are added in fp32. A warp has 16 channels of all pixels; shared memory turns
// that into rows of 64 channels.
__device__ void finish(const Epilogue& epilogue, const Sizes& sizes, const Tile& tile,
                       int warpgroup, float (&sums)[kTilePixels / 2], unsigned char* s_pass) {
  const int thread = threadIdx.x % 128;
  const int warp = thread / 32;
  const int lane = thread % 32;
  const int channel = tile.first_channel + warpgroup * 64 + warp * 16 + lane / 4;
  float bias[2] = {};
  if (epilogue.g_bias != nullptr) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (channel + 8 * i < sizes.out_channels) bias[i] = epilogue.g_bias[channel + 8 * i];
    }
  }
  const bool has_residual = epilogue.g_residual != nullptr;
#pragma unroll
  for (int pass = 0; pass < kTilePixels / kPassPixels; ++pass) {
    if (has_residual) {
      device::wait_copies<0>();
      device::sync_threads(1 + warpgroup, 128);
    }
#pragma unroll
    for (int j = 0; j < kPassPixels / 16; ++j) {  // 16 pixels: four matrices of 8 pixels × channels
      const int pixel = j * 16 + lane / 16 * 8 + lane % 8;
      unsigned char* s_row = s_pass + device::swizzled_128b(pixel, 2 * warp + lane / 8 % 2);
      std::uint32_t packed[4] = {};
      if (has_residual) device::load_matrices_transposed(packed, s_row);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* pair = sums + (pass * kPassPixels + j * 16) / 2 + 2 * i;
        packed[i] = device::pack_bf16(pair[0] + bias[i % 2] + low_half(packed[i]),
                                      pair[1] + bias[i % 2] + high_half(packed[i]));
      }
      device::store_matrices_transposed(s_row, packed);
    }
    device::sync_threads(1 + warpgroup, 128);
#pragma unroll
    for (int i = 0; i < kPassPixels / 16; ++i) {
      const int pixel = i * 16 + thread / 8;
      const int piece = thread % 8;
      const std::int64_t offset =
          find_piece(sizes, tile, tile.first_pixel + pass * kPassPixels + pixel,
                     tile.first_channel + warpgroup * 64 + piece * 8);
      if (offset < 0) continue;
      *reinterpret_cast<uint4*>(epilogue.g_out + offset) =
          *reinterpret_cast<const uint4*>(s_pass + device::swizzled_128b(pixel, piece));
    }
    device::sync_threads(1 + warpgroup, 128);
    if (has_residual && pass + 1 < kTilePixels / kPassPixels) {
      start_residual(epilogue, sizes, tile, warpgroup, pass + 1, s_pass);
    }
  }
}

__device__ void consume(const Sizes& sizes, const Epilogue& epilogue, SharedMemory& s, int rank,
                        int warpgroup) {
  Ring<kStrips> strip;
  Ring<kTaps> tap;
  const int lane = threadIdx.x % 32;
  unsigned char* s_pass = s.s_passes[warpgroup];
  const int num_strips = sizes.kt * sizes.kh * sizes.depth_steps;
  const int num_clusters = gridDim.x / kClusterSize;
  for (int item = blockIdx.x / kClusterSize; item < num_items(sizes); item += num_clusters) {
    const Tile tile = find_tile(sizes, item, rank);
    if (epilogue.g_residual != nullptr) {
      start_residual(epilogue, sizes, tile, warpgroup, 0, s_pass);
    }
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
    finish(epilogue, sizes, tile, warpgroup, sums, s_pass);
  }
}

__global__ void __cluster_dims__(kClusterSize) __launch_bounds__(kThreads, 1)
    conv3d_kernel(const __grid_constant__ CUtensorMap strip_map,
                  const __grid_constant__ CUtensorMap overhang_map,
                  const __grid_constant__ CUtensorMap tap_map, const Sizes sizes,
                  const Epilogue epilogue) {
  extern __shared__ unsigned char s_raw[];
  SharedMemory& s = *reinterpret_cast<SharedMemory*>(
      s_raw + (kAlignment - device::shared_address(s_raw) % kAlignment) % kAlignment);
  const int rank = static_cast<int>(device::cluster_rank());
  const int warpgroup = device::warp_uniform(threadIdx.x / 128);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStrips; ++i) {
      device::init_barrier(&s.strip_full[i], 1);
      device::init_barrier(&s.strip_empty[i], kConsumers * 4);
    }
    for (int i = 0; i < kTaps; ++i) {
      device::init_barrier(&s.tap_full[i], 1);
      device::init_barrier(&s.tap_empty[i], kConsumers * 4 * kClusterSize);
    }
    device::fence_barrier_init();
  }
  device::sync_cluster();
  if (warpgroup == kConsumers) {
    device::lower_registers<kProducerRegisters>();
    if (threadIdx.x % 128 < 32 && device::is_elected()) {
      produce(strip_map, overhang_map, tap_map, sizes, s, rank);
    }
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
