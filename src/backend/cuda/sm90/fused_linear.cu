// One persistent kernel for all operations. docs/kernels/fused-linear.md has the reasoning and the
// numbers.
//
// A block computes 128 rows of x times two halves of 128 rows of the weight. The halves belong
// together but need not be neighbours: the gate and the value of the same features, or query and
// key of the same head. Two warpgroups compute and leave their results in shared memory; three
// warps turn these into the output while the next tile is computed.
#include <algorithm>
#include <array>
#include <limits>

#include "backend/cuda/common/cuda_check.h"
#include "backend/cuda/common/shared_memory_limit.h"
#include "backend/cuda/device/wgmma.cuh"
#include "backend/cuda/sm90/fused_linear.h"
#include "backend/cuda/sm90/linear_epilogues.cuh"
#include "backend/cuda/sm90/tensor_map.h"

namespace mochi::cuda::sm90 {
namespace {

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

// Called by a consumer: brings the scales of a tile's columns to shared memory, and returns them
// with those of the thread's rows. wait_for_scales() comes before their use.
template <typename Tile, typename Epilogue>
__device__ SumScales load_scales(const LinearScales& scales, const Epilogue& epilogue,
                                 const LinearPosition& tile, float* s_columns, int warpgroup) {
  const int thread = threadIdx.x % 128;
  device::sync_threads(1 + warpgroup, 128);  // the former tile's are in use no longer
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = epilogue.first_weight_row(tile.column_idx, half) + thread;
    s_columns[half * Tile::kHalf + thread] = row < scales.n ? scales.g_weight[row] : 0.0F;
  }
  SumScales found{{}, s_columns};
  const int first =
      tile.first_row + warpgroup * Tile::kConsumerRows + thread / 32 * 16 + thread % 32 / 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = first + 8 * i;
    found.of_rows[i] = row < scales.rows ? scales.g_x[row] : 0.0F;
  }
  return found;
}

__device__ void wait_for_scales(int warpgroup) { device::sync_threads(1 + warpgroup, 128); }

template <typename Tile, typename Epilogue>
__device__ void consume(const LinearSizes& sizes, const LinearScales& scales,
                        const Epilogue& epilogue, LinearMemory<Tile>& s, int rank, int warpgroup) {
  constexpr bool kIsQuantised = Tile::Operands::kIsQuantised;
  Ring<Tile::kStages> stage;
  unsigned out_parity = 1;
  const int lane = threadIdx.x % 32;
  const int num_clusters = gridDim.x / Tile::kClusterSize;
  for (int item = blockIdx.x / Tile::kClusterSize; item < num_items(sizes); item += num_clusters) {
    typename Tile::Operands::Sum sums[Tile::kHalf];
    SumScales sum_scales;
    if constexpr (kIsQuantised) {
      sum_scales = load_scales<Tile>(scales, epilogue, find_tile<Tile>(sizes, item, rank),
                                     s.s_scales[warpgroup], warpgroup);
    }
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
      for (int k = 0; k < Tile::kProducts; ++k) {
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
    if constexpr (kIsQuantised) wait_for_scales(warpgroup);
    store_sums<Tile>(sums, sum_scales, s.s_out[warpgroup]);
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
                        const LinearScales scales, const Epilogue epilogue) {
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
    consume(sizes, scales, epilogue, s, rank, warpgroup);
  }
  // A block must not exit before its neighbour's data has arrived.
  device::sync_cluster();
}

int ceil_divide(std::int64_t a, std::int64_t b) { return static_cast<int>((a + b - 1) / b); }

// The operands and sizes of one product x [rows, k] · weight [n, k]ᵀ. Tiles of all kinds have the
// same sizes in bytes.
struct Product {
  const void* g_x;
  const void* g_weight;
  std::int64_t rows, n, k;
  LinearScales scales;

  std::int64_t row_bytes() const { return k * (scales.are_given() ? 1 : 2); }
};

using AnyTile = LinearTile<BF16Operands>;

CUtensorMap map_rows(const Product& product) {
  return make_tensor_map(product.g_x,
                         std::array<std::int64_t, 2>{product.row_bytes() / 2, product.rows},
                         std::array<std::int64_t, 1>{product.row_bytes()},
                         std::array<int, 2>{AnyTile::kDepth, AnyTile::kTileRows});
}

// The rank is 4 because load_tile_to needs it.
CUtensorMap map_weight(const Product& product) {
  const std::int64_t all_bytes = product.n * product.row_bytes();
  return make_tensor_map(product.g_weight,
                         std::array<std::int64_t, 4>{product.row_bytes() / 2, product.n, 1, 1},
                         std::array<std::int64_t, 3>{product.row_bytes(), all_bytes, all_bytes},
                         std::array<int, 4>{AnyTile::kDepth, AnyTile::kHalf, 1, 1});
}

template <typename Tile, typename Epilogue>
void launch(const Product& product, std::int64_t column_tiles, const Epilogue& epilogue,
            int num_multiprocessors, cudaStream_t stream) {
  constexpr int kSharedBytes = sizeof(LinearMemory<Tile>);
  const LinearSizes sizes{ceil_divide(product.rows, Tile::kTileRows * Tile::kClusterSize),
                          static_cast<int>(column_tiles),
                          ceil_divide(product.row_bytes(), Tile::kRowBytes)};
  const auto kernel = fused_linear_kernel<Tile, Epilogue>;
  allow_shared_memory(kernel, kSharedBytes);
  const int num_clusters =
      std::min(sizes.row_tiles * sizes.column_tiles, num_multiprocessors / Tile::kClusterSize);
  kernel<<<static_cast<unsigned>(num_clusters * Tile::kClusterSize), Tile::kThreads, kSharedBytes,
           stream>>>(map_rows(product), map_weight(product), sizes, product.scales, epilogue);
  check_launch("fused_linear");
}

// Returns true if int coordinates and tile numbers are large enough for these sizes.
bool suits(const Product& product, std::initializer_list<const void*> pointers) {
  constexpr std::int64_t kMax = std::numeric_limits<int>::max() / 2;
  const auto is_aligned = [](const void* pointer) {
    return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
  };
  return product.rows > 0 && product.k > 0 && product.row_bytes() % 16 == 0 &&
         product.rows <= kMax && product.n <= kMax && product.k <= kMax &&
         (product.rows / AnyTile::kTileRows + 1) * (product.n / AnyTile::kHalf + 1) <= kMax &&
         is_aligned(product.g_x) && is_aligned(product.g_weight) &&
         std::ranges::all_of(pointers, is_aligned);
}

Product product_of(const LinearParams& params) {
  return {params.g_x, params.g_weight, params.rows, params.n, params.k, params.scales};
}

Product product_of(const GatedLinearParams& params) {
  return {params.g_x, params.g_weight, params.rows, 2 * params.features, params.k, params.scales};
}

Product product_of(const QkvLinearParams& params) {
  return {params.g_x, params.g_weight, params.tokens, 3 * params.heads * params.head_dim,
          params.k,   params.scales};
}

}  // namespace

bool suits_linear(const LinearParams& params) {
  return params.n % AnyTile::kHalf == 0 && suits(product_of(params), {params.g_out});
}

bool suits_gated_linear(const GatedLinearParams& params) {
  return params.features % AnyTile::kHalf == 0 && suits(product_of(params), {params.g_out});
}

bool suits_qkv_linear(const QkvLinearParams& params) {
  return params.head_dim == AnyTile::kHalf && params.total <= std::numeric_limits<int>::max() / 2 &&
         suits(product_of(params), {params.g_q, params.g_k, params.g_v, params.g_q_weight,
                                    params.g_k_weight, params.g_cos, params.g_sin});
}

void launch_linear(const LinearParams& params, int num_multiprocessors, cudaStream_t stream) {
  using Tile = LinearTile<I8Operands>;
  launch<Tile>(product_of(params), ceil_divide(params.n, 2 * Tile::kHalf),
               Store<Tile>{static_cast<__nv_bfloat16*>(params.g_out), params.rows, params.n},
               num_multiprocessors, stream);
}

void launch_gated_linear(const GatedLinearParams& params, int num_multiprocessors,
                         cudaStream_t stream) {
  const auto launch_with = [&]<typename Operands, Activation kActivation>() {
    using Tile = LinearTile<Operands>;
    launch<Tile>(product_of(params), params.features / Tile::kHalf,
                 Gate<Tile, kActivation>{static_cast<__nv_bfloat16*>(params.g_out), params.rows,
                                         params.features},
                 num_multiprocessors, stream);
  };
  const auto launch_activation = [&]<Activation kActivation>() {
    if (params.scales.are_given()) {
      launch_with.template operator()<I8Operands, kActivation>();
    } else {
      launch_with.template operator()<BF16Operands, kActivation>();
    }
  };
  switch (params.activation) {
    case Activation::kNone:
      return launch_activation.template operator()<Activation::kNone>();
    case Activation::kSilu:
      return launch_activation.template operator()<Activation::kSilu>();
    case Activation::kGeluTanh:
      return launch_activation.template operator()<Activation::kGeluTanh>();
  }
}

void launch_qkv_linear(const QkvLinearParams& params, int num_multiprocessors,
                       cudaStream_t stream) {
  const std::int64_t column_tiles = params.heads + (params.heads + 1) / 2;
  const auto launch_with = [&]<typename Operands>() {
    using Tile = LinearTile<Operands>;
    launch<Tile>(product_of(params), column_tiles, SplitQkv<Tile>{params}, num_multiprocessors,
                 stream);
  };
  if (params.scales.are_given()) {
    launch_with.template operator()<I8Operands>();
  } else {
    launch_with.template operator()<BF16Operands>();
  }
}

}  // namespace mochi::cuda::sm90
