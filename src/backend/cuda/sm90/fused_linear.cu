// One persistent kernel for both operations. docs/kernels/fused-linear.md has the reasoning and the
// numbers.
//
// A block computes 128 rows of x times two halves of 128 rows of the weight. The halves belong
// together but need not be neighbours: the gate and the value of the same features, or query and
// key of the same head. Two warpgroups compute and leave their results in shared memory; three
// warps turn these into the output while the next tile is computed.
#include <cuda_bf16.h>

#include <algorithm>
#include <array>
#include <limits>

#include "backend/cuda/common/activation.cuh"
#include "backend/cuda/common/cuda_check.h"
#include "backend/cuda/common/norm_rope.cuh"
#include "backend/cuda/common/shared_memory_limit.h"
#include "backend/cuda/device/wgmma.cuh"
#include "backend/cuda/sm90/fused_linear.h"
#include "backend/cuda/sm90/linear_tile.cuh"
#include "backend/cuda/sm90/tensor_map.h"

namespace mochi::cuda::sm90 {
namespace {

// out = act(a)·b.
template <typename Tile, Activation kActivation>
struct Gate {
  __nv_bfloat16* g_out;
  std::int64_t rows, features;

  __device__ int first_weight_row(int column_idx, int half) const {
    return column_idx * Tile::kHalf + half * static_cast<int>(features);
  }
  // Called by whole warps. `row` is the row of s_out, `out_row` that of the output.
  __device__ void finish(const unsigned char* s_out, int row, int out_row, int column_idx,
                         int lane) const {
    if (out_row >= rows) return;
    float a[Tile::kSize];
    float b[Tile::kSize];
    unpack(read_results<Tile>(s_out, 0, row, lane), a);
    unpack(read_results<Tile>(s_out, 1, row, lane), b);
#pragma unroll
    for (int i = 0; i < Tile::kSize; ++i) a[i] = activate<__nv_bfloat16, kActivation>(a[i]) * b[i];
    store_vector(g_out + out_row * features + column_idx * Tile::kHalf, lane, a);
  }
};

// Writes q and k of one head, normalised and rotated; after the q and k of all heads, v of two.
template <typename Tile>
struct SplitQkv {
  QkvLinearParams to;

  __device__ int first_weight_row(int column_idx, int half) const {
    const auto heads = static_cast<int>(to.heads);
    return (column_idx < heads ? column_idx + half * heads : 2 * column_idx + half) * Tile::kHalf;
  }
  __device__ void finish(const unsigned char* s_out, int row, int out_row, int column_idx,
                         int lane) const {
    const bool is_there = out_row < to.tokens;
    const uint4 first = read_results<Tile>(s_out, 0, row, lane);
    const uint4 second = read_results<Tile>(s_out, 1, row, lane);
    if (column_idx >= to.heads) {
      const std::int64_t head = 2 * (column_idx - to.heads);
      if (is_there) store(to.g_v, head, out_row, lane, first);
      if (is_there && head + 1 < to.heads) store(to.g_v, head + 1, out_row, lane, second);
      return;
    }
    float cosines[Tile::kSize / 2];
    float sines[Tile::kSize / 2];
    if (to.g_cos != nullptr) {
      // Rows after the last one take part in the sums over lanes; they use the last row's angles.
      const std::int64_t token = is_there ? out_row : to.tokens - 1;
      const std::int64_t offset = (token * to.heads + column_idx) * (Tile::kHalf / 2) + lane * 4;
      load_floats(to.g_cos + offset, cosines);
      load_floats(to.g_sin + offset, sines);
    }
    const auto finish_part = [&](const uint4& part, const float* g_weight, void* g_target) {
      float values[Tile::kSize];
      float weight[Tile::kSize];
      unpack(part, values);
#pragma unroll
      for (int i = 0; i < Tile::kSize; ++i) weight[i] = __ldg(g_weight + lane * Tile::kSize + i);
      norm<Tile::kLanes>(values, weight, to.eps);
      if (to.g_cos != nullptr) rotate(values, cosines, sines);
      if (is_there) store(g_target, column_idx, out_row, lane, pack(values));
    };
    finish_part(first, to.g_q_weight, to.g_q);
    finish_part(second, to.g_k_weight, to.g_k);
  }

 private:
  __device__ void store(void* g_target, std::int64_t head, int token, int lane,
                        const uint4& values) const {
    const std::int64_t row = head * to.total + to.offset + token;
    static_cast<uint4*>(g_target)[row * Tile::kLanes + lane] = values;
  }
};

__device__ inline int num_items(const LinearSizes& sizes) {
  return sizes.row_tiles * sizes.column_tiles;
}

template <typename Tile, typename Epilogue>
__device__ void produce(const CUtensorMap& x_map, const CUtensorMap& weight_map,
                        const LinearSizes& sizes, const Epilogue& epilogue, LinearMemory<Tile>& s,
                        int rank) {
  Ring<Tile::kStages> stage;
  const int num_clusters = gridDim.x / Tile::kClusterSize;
  for (int item = blockIdx.x / Tile::kClusterSize; item < num_items(sizes); item += num_clusters) {
    const LinearPosition tile = find_tile<Tile>(sizes, item, rank);
    const int weight_row = epilogue.first_weight_row(tile.column_idx, rank);
    for (int step = 0; step < sizes.depth_steps; ++step) {
      device::wait(&s.empty[stage.idx], stage.parity ^ 1);
      device::arrive_expecting(&s.full[stage.idx], Tile::kTileBytes + 2 * Tile::kHalfBytes);
      device::load_tile<2>(s.s_x[stage.idx], x_map, {step * Tile::kDepth, tile.first_row},
                           &s.full[stage.idx]);
      device::load_tile_to(s.s_weight[stage.idx] + rank * Tile::kHalfBytes, weight_map,
                           {step * Tile::kDepth, weight_row, 0, 0}, &s.full[stage.idx],
                           (1 << Tile::kClusterSize) - 1);
      stage.advance();
    }
  }
}

template <typename Tile>
__device__ void consume(const LinearSizes& sizes, LinearMemory<Tile>& s, int warpgroup) {
  Ring<Tile::kStages> stage;
  unsigned out_parity = 1;
  const int lane = threadIdx.x % 32;
  const int num_clusters = gridDim.x / Tile::kClusterSize;
  for (int item = blockIdx.x / Tile::kClusterSize; item < num_items(sizes); item += num_clusters) {
    float sums[Tile::kHalf];
    // Stages are released one product later, when it is known to be complete.
    int former = -1;
    const auto release_stage = [&] {
      if (former >= 0 && lane < Tile::kClusterSize) device::arrive_at(&s.empty[former], lane);
    };
    for (int step = 0; step < sizes.depth_steps; ++step) {
      device::wait(&s.full[stage.idx], stage.parity);
      const std::uint64_t rows = device::describe_k_rows(
          s.s_x[stage.idx] + warpgroup * Tile::kConsumerRows * Tile::kRowBytes);
      const std::uint64_t columns = device::describe_k_rows(s.s_weight[stage.idx]);
      device::fence_products();
#pragma unroll
      for (int k = 0; k < Tile::kDepth / 16; ++k) {
        device::multiply(sums, device::advance(rows, k * 32), device::advance(columns, k * 32),
                         (step | k) != 0);
      }
      device::commit_products();
      device::wait_products<1>();
      release_stage();
      former = stage.idx;
      stage.advance();
    }
    device::wait_products<0>();
    device::hold(sums);
    release_stage();
    device::wait(&s.out_empty[warpgroup], out_parity);
    out_parity ^= 1;
    store_sums<Tile>(sums, s.s_out[warpgroup]);
    device::arrive(&s.out_full[warpgroup]);
  }
}

// The work of the finishing warps, which process the results of a tile while the next is computed.
template <typename Tile, typename Epilogue>
__device__ void finish(const LinearSizes& sizes, const Epilogue& epilogue, LinearMemory<Tile>& s,
                       int rank) {
  const int thread = threadIdx.x % 128 - (128 - Tile::kFinishers);
  const int lane = thread % Tile::kLanes;
  const int num_clusters = gridDim.x / Tile::kClusterSize;
  unsigned parity = 0;
  for (int item = blockIdx.x / Tile::kClusterSize; item < num_items(sizes); item += num_clusters) {
    const LinearPosition tile = find_tile<Tile>(sizes, item, rank);
    for (int i = 0; i < Tile::kConsumers; ++i) {
      device::wait(&s.out_full[i], parity);
#pragma unroll 2
      for (int row = thread / Tile::kLanes; row < Tile::kConsumerRows;
           row += Tile::kFinishers / Tile::kLanes) {
        epilogue.finish(s.s_out[i], row, tile.first_row + i * Tile::kConsumerRows + row,
                        tile.column_idx, lane);
      }
      device::arrive(&s.out_empty[i]);
    }
    parity ^= 1;
  }
}

template <typename Tile, typename Epilogue>
__global__ void __cluster_dims__(Tile::kClusterSize) __launch_bounds__(Tile::kThreads, 1)
    fused_linear_kernel(const __grid_constant__ CUtensorMap x_map,
                        const __grid_constant__ CUtensorMap weight_map, const LinearSizes sizes,
                        const Epilogue epilogue) {
  extern __shared__ __align__(Tile::kAlignment) unsigned char s_raw[];
  auto& s = *reinterpret_cast<LinearMemory<Tile>*>(s_raw);
  const int rank = static_cast<int>(device::cluster_rank());
  const int warpgroup = device::warp_uniform(threadIdx.x / 128);
  if (threadIdx.x == 0) {
    if (device::shared_address(s_raw) % Tile::kAlignment != 0) __trap();
    for (int i = 0; i < Tile::kStages; ++i) {
      device::init_barrier(&s.full[i], 1);
      device::init_barrier(&s.empty[i], Tile::kConsumers * 4 * Tile::kClusterSize);
    }
    for (int i = 0; i < Tile::kConsumers; ++i) {
      device::init_barrier(&s.out_full[i], 128);
      device::init_barrier(&s.out_empty[i], Tile::kFinishers);
    }
    device::fence_barrier_init();
  }
  device::sync_cluster();
  if (warpgroup == Tile::kConsumers) {
    device::lower_registers<Tile::kOtherRegisters>();
    if (device::warp_uniform(threadIdx.x % 128 / 32) > 0) {
      finish(sizes, epilogue, s, rank);
    } else if (device::is_elected()) {
      produce(x_map, weight_map, sizes, epilogue, s, rank);
    }
    __syncwarp();
  } else {
    device::raise_registers<Tile::kConsumerRegisters>();
    consume(sizes, s, warpgroup);
  }
  // A block must not exit before its neighbour's data has arrived.
  device::sync_cluster();
}

// The tile of all launches.
using Tile = LinearTile;

int ceil_divide(std::int64_t a, std::int64_t b) { return static_cast<int>((a + b - 1) / b); }

CUtensorMap map_rows(const void* g_data, std::int64_t rows, std::int64_t k) {
  return make_tensor_map(g_data, std::array<std::int64_t, 2>{k, rows},
                         std::array<std::int64_t, 1>{k * 2},
                         std::array<int, 2>{Tile::kDepth, Tile::kTileRows});
}

// The rank is 4 because load_tile_to needs it.
CUtensorMap map_weight(const void* g_weight, std::int64_t n, std::int64_t k) {
  return make_tensor_map(g_weight, std::array<std::int64_t, 4>{k, n, 1, 1},
                         std::array<std::int64_t, 3>{k * 2, n * k * 2, n * k * 2},
                         std::array<int, 4>{Tile::kDepth, Tile::kHalf, 1, 1});
}

template <typename Epilogue>
void launch(const CUtensorMap& x_map, const CUtensorMap& weight_map, const LinearSizes& sizes,
            const Epilogue& epilogue, int num_multiprocessors, cudaStream_t stream) {
  constexpr int kSharedBytes = sizeof(LinearMemory<Tile>);
  const auto kernel = fused_linear_kernel<Tile, Epilogue>;
  allow_shared_memory(kernel, kSharedBytes);
  const int num_clusters =
      std::min(sizes.row_tiles * sizes.column_tiles, num_multiprocessors / Tile::kClusterSize);
  kernel<<<static_cast<unsigned>(num_clusters * Tile::kClusterSize), Tile::kThreads, kSharedBytes,
           stream>>>(x_map, weight_map, sizes, epilogue);
  check_launch("fused_linear");
}

LinearSizes find_sizes(std::int64_t rows, std::int64_t column_tiles, std::int64_t k) {
  return {ceil_divide(rows, Tile::kTileRows * Tile::kClusterSize), static_cast<int>(column_tiles),
          ceil_divide(k, Tile::kDepth)};
}

// Returns true if int coordinates and tile numbers are large enough for these sizes.
bool suits(std::int64_t rows, std::int64_t n, std::int64_t k,
           std::initializer_list<const void*> pointers) {
  constexpr std::int64_t kMax = std::numeric_limits<int>::max() / 2;
  return rows > 0 && k > 0 && k % 8 == 0 && rows <= kMax && n <= kMax && k <= kMax &&
         (rows / Tile::kTileRows + 1) * (n / Tile::kHalf + 1) <= kMax &&
         std::ranges::all_of(pointers, [](const void* pointer) {
           return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
         });
}

}  // namespace

bool suits_gated_linear(const GatedLinearParams& params) {
  return params.features % Tile::kHalf == 0 && suits(params.rows, 2 * params.features, params.k,
                                                     {params.g_x, params.g_weight, params.g_out});
}

bool suits_qkv_linear(const QkvLinearParams& params) {
  return params.head_dim == Tile::kHalf && params.total <= std::numeric_limits<int>::max() / 2 &&
         suits(params.tokens, 3 * params.heads * params.head_dim, params.k,
               {params.g_x, params.g_weight, params.g_q, params.g_k, params.g_v, params.g_q_weight,
                params.g_k_weight, params.g_cos, params.g_sin});
}

void launch_gated_linear(const GatedLinearParams& params, int num_multiprocessors,
                         cudaStream_t stream) {
  const CUtensorMap x_map = map_rows(params.g_x, params.rows, params.k);
  const CUtensorMap weight_map = map_weight(params.g_weight, 2 * params.features, params.k);
  const LinearSizes sizes = find_sizes(params.rows, params.features / Tile::kHalf, params.k);
  const auto launch_with = [&]<Activation kActivation>() {
    launch(x_map, weight_map, sizes,
           Gate<Tile, kActivation>{static_cast<__nv_bfloat16*>(params.g_out), params.rows,
                                   params.features},
           num_multiprocessors, stream);
  };
  switch (params.activation) {
    case Activation::kNone:
      return launch_with.template operator()<Activation::kNone>();
    case Activation::kSilu:
      return launch_with.template operator()<Activation::kSilu>();
    case Activation::kGeluTanh:
      return launch_with.template operator()<Activation::kGeluTanh>();
  }
}

void launch_qkv_linear(const QkvLinearParams& params, int num_multiprocessors,
                       cudaStream_t stream) {
  const CUtensorMap x_map = map_rows(params.g_x, params.tokens, params.k);
  const CUtensorMap weight_map =
      map_weight(params.g_weight, 3 * params.heads * Tile::kHalf, params.k);
  const std::int64_t column_tiles = params.heads + (params.heads + 1) / 2;
  launch(x_map, weight_map, find_sizes(params.tokens, column_tiles, params.k),
         SplitQkv<Tile>{params}, num_multiprocessors, stream);
}

}  // namespace mochi::cuda::sm90
