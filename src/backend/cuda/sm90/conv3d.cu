// One persistent kernel. docs/kernels/convolution.md has the reasoning and the numbers.
//
// The pixels of x, halo included, form one long list. Every filter tap is a shift along it, and so
// is the output, of which the last kw − 1 pixels of each row are computed but not stored. A block
// computes 128 output channels × 256 consecutive pixels. Weights are wgmma's first operand and
// pixels its second, so that few channels still fill the largest instruction. The kw taps of a
// filter row read one strip of pixels in shared memory, each one pixel further on.
#include <cuda_bf16.h>

#include <algorithm>
#include <array>
#include <limits>

#include "backend/cuda/common/cuda_check.h"
#include "backend/cuda/common/shared_memory_limit.h"
#include "backend/cuda/device/mbarrier.cuh"
#include "backend/cuda/device/threads.cuh"
#include "backend/cuda/device/tma.cuh"
#include "backend/cuda/device/wgmma.cuh"
#include "backend/cuda/sm90/conv3d.h"
#include "backend/cuda/sm90/conv3d_tile.cuh"
#include "backend/cuda/sm90/tensor_map.h"

namespace mochi::cuda::sm90 {
namespace {

template <typename Tile>
__device__ void produce(const CUtensorMap& strip_map, const CUtensorMap& overhang_map,
                        const CUtensorMap& tap_map, const ConvSizes& sizes, ConvMemory<Tile>& s,
                        int rank) {
  Ring<Tile::kStrips> strip;
  Ring<Tile::kTaps> tap;
  const unsigned strip_bytes = (Tile::kTilePixels + (sizes.kw > 1 ? Tile::kOverhang : 0)) *
                               static_cast<unsigned>(Tile::kRowBytes);
  const int num_clusters = gridDim.x / Tile::kClusterSize;
  for (int item = blockIdx.x / Tile::kClusterSize; item < num_items<Tile>(sizes);
       item += num_clusters) {
    const ConvPosition tile = find_tile<Tile>(sizes, item, rank);
    for (int filter_row = 0; filter_row < sizes.kt * sizes.kh; ++filter_row) {
      const int pixel = (tile.frame + filter_row / sizes.kh) * sizes.frame_pixels +
                        filter_row % sizes.kh * sizes.padded_columns + tile.first_pixel;
      for (int step = 0; step < sizes.depth_steps; ++step) {
        device::wait(&s.strip_empty[strip.idx], strip.parity ^ 1);
        device::arrive_expecting(&s.strip_full[strip.idx], strip_bytes);
        unsigned char* s_strip = s.s_strips[strip.idx];
        device::load_tile<2>(s_strip, strip_map, {step * Tile::kDepth, pixel},
                             &s.strip_full[strip.idx]);
        if (sizes.kw > 1) {
          device::load_tile<2>(s_strip + Tile::kTilePixels * Tile::kRowBytes, overhang_map,
                               {step * Tile::kDepth, pixel + Tile::kTilePixels},
                               &s.strip_full[strip.idx]);
        }
        strip.advance();
        for (int dx = 0; dx < sizes.kw; ++dx) {
          device::wait(&s.tap_empty[tap.idx], tap.parity ^ 1);
          device::arrive_expecting(&s.tap_full[tap.idx], Tile::kTapBytes);
          constexpr int kPart = Tile::kTileChannels / Tile::kClusterSize;
          device::load_tile_to(s.s_taps[tap.idx] + rank * kPart * Tile::kRowBytes, tap_map,
                               {step * Tile::kDepth, filter_row * sizes.kw + dx,
                                tile.first_channel + rank * kPart, 0},
                               &s.tap_full[tap.idx], (1 << Tile::kClusterSize) - 1);
          tap.advance();
        }
      }
    }
  }
}

template <typename Tile>
__device__ void consume(const ConvSizes& sizes, const ConvEpilogue& epilogue, ConvMemory<Tile>& s,
                        int rank, int warpgroup) {
  Ring<Tile::kStrips> strip;
  Ring<Tile::kTaps> tap;
  unsigned out_parity = 0;
  const int lane = threadIdx.x % 32;
  const int num_strips = sizes.kt * sizes.kh * sizes.depth_steps;
  // Counts down to the product before which the other consumer may start.
  int head_start = warpgroup == 0 ? min(Tile::kHeadStart, sizes.kw) : -1;
  if (warpgroup != 0) device::wait(&s.head_start, 0);
  const int num_clusters = gridDim.x / Tile::kClusterSize;
  for (int item = blockIdx.x / Tile::kClusterSize; item < num_items<Tile>(sizes);
       item += num_clusters) {
    float sums[Tile::kTilePixels / 2];
    // Stages are released one product later, when it is known to be complete.
    int former_tap = -1;
    int former_strip = -1;
    const auto release_stage = [&] {
      if (former_tap >= 0 && lane < Tile::kClusterSize)
        device::arrive_at(&s.tap_empty[former_tap], lane);
      if (former_strip >= 0 && lane == 0) device::arrive(&s.strip_empty[former_strip]);
    };
    for (int i = 0; i < num_strips; ++i) {
      device::wait(&s.strip_full[strip.idx], strip.parity);
      const std::uint64_t pixels = device::describe_k_rows(s.s_strips[strip.idx]);
      for (int dx = 0; dx < sizes.kw; ++dx) {
        if (head_start-- == 0 && threadIdx.x == 0) device::arrive(&s.head_start);
        device::wait(&s.tap_full[tap.idx], tap.parity);
        const std::uint64_t weights =
            device::describe_k_rows(s.s_taps[tap.idx] + warpgroup * 64 * Tile::kRowBytes);
        // The swizzle depends on the address, so a tile may begin at any row.
        const std::uint64_t shifted = device::advance(pixels, dx * Tile::kRowBytes);
        device::fence_products();
#pragma unroll
        for (int k = 0; k < Tile::kDepth / 16; ++k) {
          device::multiply(sums, device::advance(weights, k * 32), device::advance(shifted, k * 32),
                           (i | dx | k) != 0);
        }
        device::commit_products();
        device::wait_products<1>();
        release_stage();
        former_tap = tap.idx;
        former_strip = dx + 1 == sizes.kw ? strip.idx : -1;
        tap.advance();
      }
      strip.advance();
    }
    device::wait_products<0>();
    device::hold(sums);
    release_stage();
    const ConvPosition tile = find_tile<Tile>(sizes, item, rank);
    device::wait(&s.out_ready[warpgroup], out_parity);
    out_parity ^= 1;
    finish(epilogue, sizes, tile.first_channel + warpgroup * 64, sums, s.s_out[warpgroup]);
    device::arrive(&s.out_full[warpgroup]);
    if (head_start >= 0 && threadIdx.x == 0) device::arrive(&s.head_start);
    head_start = -1;
  }
}

template <typename Tile>
__global__ void __cluster_dims__(Tile::kClusterSize) __launch_bounds__(Tile::kThreads, 1)
    conv3d_kernel(const __grid_constant__ CUtensorMap strip_map,
                  const __grid_constant__ CUtensorMap overhang_map,
                  const __grid_constant__ CUtensorMap tap_map, const ConvSizes sizes,
                  const ConvEpilogue epilogue) {
  extern __shared__ __align__(Tile::kAlignment) unsigned char s_raw[];
  auto& s = *reinterpret_cast<ConvMemory<Tile>*>(s_raw);
  const int rank = static_cast<int>(device::cluster_rank());
  const int warpgroup = device::warp_uniform(threadIdx.x / 128);
  if (threadIdx.x == 0) {
    if (device::shared_address(s_raw) % Tile::kAlignment != 0) __trap();
    for (int i = 0; i < Tile::kStrips; ++i) {
      device::init_barrier(&s.strip_full[i], 1);
      device::init_barrier(&s.strip_empty[i], Tile::kConsumers * 4);
    }
    for (int i = 0; i < Tile::kTaps; ++i) {
      device::init_barrier(&s.tap_full[i], 1);
      device::init_barrier(&s.tap_empty[i], Tile::kConsumers * 4 * Tile::kClusterSize);
    }
    for (int i = 0; i < Tile::kConsumers; ++i) {
      device::init_barrier(&s.out_ready[i], Tile::kStorers);
      device::init_barrier(&s.out_full[i], 128);
    }
    device::init_barrier(&s.head_start, 1);
    device::fence_barrier_init();
  }
  device::sync_cluster();
  if (warpgroup == Tile::kConsumers) {
    device::lower_registers<Tile::kProducerRegisters>();
    if (device::warp_uniform(threadIdx.x % 128 / 32) > 0) {
      store(sizes, epilogue, s, rank);
    } else if (device::is_elected()) {
      produce(strip_map, overhang_map, tap_map, sizes, s, rank);
    }
    __syncwarp();
  } else {
    device::raise_registers<Tile::kConsumerRegisters>();
    consume(sizes, epilogue, s, rank, warpgroup);
  }
  // A block must not exit before its neighbour's data has arrived.
  device::sync_cluster();
}

// The tile of all launches.
using Tile = Conv3dTile;

ConvSizes find_sizes(const Conv3dParams& conv) {
  const auto ceil_divide = [](std::int64_t a, std::int64_t b) {
    return static_cast<int>((a + b - 1) / b);
  };
  ConvSizes sizes{};
  sizes.frames = static_cast<int>(conv.frames) - conv.kt + 1;
  sizes.rows = static_cast<int>(conv.rows) - conv.kh + 1;
  sizes.columns = static_cast<int>(conv.columns) - conv.kw + 1;
  sizes.padded_columns = static_cast<int>(conv.columns);
  sizes.frame_pixels = static_cast<int>(conv.rows * conv.columns);
  sizes.frame_tiles = ceil_divide(sizes.rows * conv.columns - (conv.kw - 1), Tile::kTilePixels);
  sizes.num_tiles = sizes.frames * sizes.frame_tiles;
  sizes.channel_tiles = ceil_divide(conv.out_channels, Tile::kTileChannels);
  sizes.out_channels = static_cast<int>(conv.out_channels);
  sizes.depth_steps = ceil_divide(conv.in_channels, Tile::kDepth);
  sizes.kt = conv.kt;
  sizes.kh = conv.kh;
  sizes.kw = conv.kw;
  return sizes;
}

}  // namespace

bool suits_conv3d(const Conv3dParams& conv) {
  // Leaves room after the end.
  constexpr std::int64_t kMax = std::numeric_limits<int>::max() / 2;
  const auto is_aligned = [](const void* pointer) {
    return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
  };
  return conv.in_channels % 8 == 0 && conv.out_channels % 8 == 0 &&
         conv.kw <= Tile::kOverhang + 1 && conv.frames * conv.rows * conv.columns <= kMax &&
         conv.out_channels <= 1 << 16 && is_aligned(conv.g_x) && is_aligned(conv.g_weight) &&
         is_aligned(conv.g_out) && is_aligned(conv.g_residual);
}

void launch_conv3d(const Conv3dParams& conv, int num_multiprocessors, cudaStream_t stream) {
  constexpr int kSharedBytes = sizeof(ConvMemory<Tile>);
  const ConvSizes sizes = find_sizes(conv);
  const std::int64_t pixel_bytes = conv.in_channels * 2;
  const std::int64_t num_taps = std::int64_t{conv.kt} * conv.kh * conv.kw;
  const std::array<std::int64_t, 2> pixel_sizes{conv.in_channels,
                                                conv.frames * conv.rows * conv.columns};
  const std::array<std::int64_t, 1> pixel_strides{pixel_bytes};
  const CUtensorMap strip_map = make_tensor_map(
      conv.g_x, pixel_sizes, pixel_strides, std::array<int, 2>{Tile::kDepth, Tile::kTilePixels});
  const CUtensorMap overhang_map = make_tensor_map(
      conv.g_x, pixel_sizes, pixel_strides, std::array<int, 2>{Tile::kDepth, Tile::kOverhang});
  // The rank is 4 because load_tile_to needs it.
  const CUtensorMap tap_map = make_tensor_map(
      conv.g_weight, std::array<std::int64_t, 4>{conv.in_channels, num_taps, conv.out_channels, 1},
      std::array<std::int64_t, 3>{pixel_bytes, num_taps * pixel_bytes,
                                  num_taps * pixel_bytes * conv.out_channels},
      std::array<int, 4>{Tile::kDepth, 1, Tile::kTileChannels / Tile::kClusterSize, 1});
  allow_shared_memory(conv3d_kernel<Tile>, kSharedBytes);
  const int num_items =
      (sizes.num_tiles + Tile::kClusterSize - 1) / Tile::kClusterSize * sizes.channel_tiles;
  const int num_clusters = std::min(num_items, num_multiprocessors / Tile::kClusterSize);
  conv3d_kernel<Tile>
      <<<static_cast<unsigned>(num_clusters * Tile::kClusterSize), Tile::kThreads, kSharedBytes,
         stream>>>(strip_map, overhang_map, tap_map, sizes,
                   {conv.g_bias, static_cast<const __nv_bfloat16*>(conv.g_residual),
                    static_cast<__nv_bfloat16*>(conv.g_out)});
  check_launch("conv3d");
}

}  // namespace mochi::cuda::sm90
