#include <algorithm>
#include <array>

#include "backend/cuda/common/cuda_check.h"
#include "backend/cuda/common/shared_memory_limit.h"
#include "backend/cuda/device/tma.cuh"
#include "backend/cuda/sm90/attention.h"
#include "backend/cuda/sm90/attention_block.cuh"
#include "backend/cuda/sm90/attention_sums.cuh"
#include "backend/cuda/sm90/tensor_map.h"

namespace mochi::cuda::sm90 {
namespace {

using device::Barrier;

// Two blocks with neighbouring queries each load half of every key tile for both, which halves the
// traffic from L2.
constexpr int kBlocks = 2;

template <typename Tile, typename Sums>
using Memory = AttentionMemory<Tile, 1, typename Sums::Memory>;

template <typename Tile>
struct KernelParams {
  __nv_bfloat16* g_out;  // [num_queries, heads·128]
  float* g_lse;          // [heads, num_queries], or null
  int heads, num_queries, num_keys;
  int head_tiles;  // tiles of kBlocks·kQueries queries per head
  float scale, scale_log2;
  SumsParams sums;
  // [num_tiles()]: tiles that FormerSums could not compute and MaximumSums computes.
  std::int32_t* g_marks;

  // Heads are outermost in the numbers of tiles, so that the keys of one head stay in L2.
  __host__ __device__ int num_tiles() const { return heads * head_tiles; }
  __device__ int head_of(int tile) const { return tile / head_tiles; }
  // Returns the first query of this block.
  __device__ int query_of(int tile) const {
    const int rank = static_cast<int>(device::cluster_rank());
    return (tile % head_tiles * kBlocks + rank) * Tile::kQueries;
  }
  // Calls fn for each tile of this cluster.
  template <typename Sums, typename Fn>
  __device__ void for_each_tile(Fn&& fn) const {
    for (int tile = blockIdx.x / kBlocks; tile < num_tiles(); tile += gridDim.x / kBlocks) {
      if constexpr (std::is_same_v<Sums, MaximumSums<Tile>>) {
        if (g_marks[tile] == 0) continue;
      }
      fn(tile);
    }
  }
};

struct TensorMaps {
  CUtensorMap q, k, v;
};

// The thread that starts all copies.
template <typename Tile, typename Sums>
struct Producer {
  Memory<Tile, Sums>& s;
  const TensorMaps& maps;
  RingPosition<Tile> at;
  unsigned q_parity = 0;

  // Loads this block's panel of a key tile to all blocks.
  __device__ void load_keys(std::byte* s_tile, const CUtensorMap& map, int key, int head,
                            Barrier* full, Barrier* empty) {
    device::wait(empty, at.parity() ^ 1);
    device::arrive_expecting(full, Tile::kTileBytes);
    const int rank = static_cast<int>(device::cluster_rank());
    device::load_tile_to(s_tile + rank * Tile::kPanelBytes, map, {0, key, rank, head}, full,
                         (1 << kBlocks) - 1);
  }
  __device__ void load_queries(int query, int head) {
    for (int group = 0; group < Tile::kConsumers; ++group) {
      device::wait(&s.q_empty[0][group], q_parity ^ 1);
      device::arrive_expecting(&s.q_full[0][group], Tile::kQueryBytes);
      device::load_tile(s.s_q[0][group], maps.q, {0, query + group * Tile::kGroupRows, 0, head},
                        &s.q_full[0][group]);
    }
    q_parity ^= 1;
  }
  __device__ void run(const KernelParams<Tile>& params) {
    params.template for_each_tile<Sums>([&](int tile) {
      const int head = params.head_of(tile);
      for (int key = 0; key < params.num_keys; key += Tile::kKeys, ++at.count) {
        const unsigned slot = at.slot();
        load_keys(s.s_k[slot], maps.k, key, head, &s.k_full[slot], &s.k_empty[slot]);
        if (key == 0) load_queries(params.query_of(tile), head);
        load_keys(s.s_v[slot], maps.v, key, head, &s.v_full[slot], &s.v_empty[slot]);
      }
    });
  }
};

template <typename Tile, typename Sums>
constexpr bool kHasFormer =
    !std::is_same_v<Sums, NoSums> && !std::is_same_v<Sums, MaximumSums<Tile>>;

template <typename Tile, typename Sums>
__device__ void consume(Memory<Tile, Sums>& s, const KernelParams<Tile>& params, int group) {
  using Group = AttentionGroup<kBlocks, Memory<Tile, Sums>>;
  Group queries{s, group};
  Sums sums{s.more};
  unsigned q_parity = 0;
  params.template for_each_tile<Sums>([&](int tile) {
    typename Group::Output output = {};
    RowState rows;
    if constexpr (!std::is_same_v<Sums, NoSums>) {
      sums.begin(params.sums, params.head_of(tile),
                 params.query_of(tile) + group * Tile::kGroupRows, params.num_queries, params.scale,
                 rows);
    }
    device::wait(&s.q_full[0][group], q_parity);
    q_parity ^= 1;
    if constexpr (kHasFormer<Tile, Sums>) {
      sums.attend(queries, params.num_keys, params.scale_log2, rows, output);
    } else {
      queries.attend(params.num_keys, params.scale_log2, rows, output, sums, [] {});
    }
    // Values derived from `tile` are recomputed here instead of being kept in registers.
    tile = static_cast<int>(device::value_here(tile));
    const int head = params.head_of(tile);
    const int first = params.query_of(tile) + group * Tile::kGroupRows;
    if constexpr (kHasFormer<Tile, Sums>) {
      if (!sums.is_good(rows, first, params.num_queries)) params.g_marks[tile] = 1;
    }
    float* g_lse = params.g_lse == nullptr
                       ? nullptr
                       : params.g_lse + static_cast<std::int64_t>(head) * params.num_queries;
    finish_rows<Tile>(rows, params.scale, g_lse, first, params.num_queries, output);
    queries.store(output, params.g_out + head * Tile::kHeadDim, first, params.num_queries,
                  static_cast<std::int64_t>(params.heads) * Tile::kHeadDim);
  });
}

// The work of one of the kSumFinishers warps.
template <typename Tile, typename Sums>
__device__ void finish(Memory<Tile, Sums>& s, const KernelParams<Tile>& params, int part) {
  RingPosition<Tile> at;
  params.template for_each_tile<Sums>([&](int tile) {
    const int first_list = params.query_of(tile) / params.sums.group_size;
    const std::int64_t list =
        static_cast<std::int64_t>(params.head_of(tile)) * params.sums.num_groups + first_list;
    finish_sums(s.more, part, params.sums.group_size, params.sums.g_sums + list * params.num_keys,
                params.sums.num_groups - first_list, params.num_keys, at);
  });
}

template <typename Tile, typename Sums>
__global__ void __cluster_dims__(kBlocks, 1, 1) __launch_bounds__(Tile::kThreads, 1)
    attention_kernel(const __grid_constant__ TensorMaps maps,
                     const __grid_constant__ KernelParams<Tile> params) {
  extern __shared__ std::byte s_memory[];
  constexpr bool kHasSums = !std::is_same_v<Sums, NoSums>;
  auto& s = *reinterpret_cast<Memory<Tile, Sums>*>(
      s_memory + (1024 - device::shared_address(s_memory) % 1024) % 1024);
  if (threadIdx.x == 0) {
    device::prefetch_map(maps.q);
    device::prefetch_map(maps.k);
    device::prefetch_map(maps.v);
    if constexpr (kHasSums) s.more.init();
    init_barriers(s, kBlocks, 1);
  }
  device::sync_cluster();
  const int warpgroup = device::warp_uniform(static_cast<int>(threadIdx.x) / Tile::kGroup);
  if (warpgroup == 0) {
    device::lower_registers<Tile::kProducerRegisters>();
    const int warp = device::warp_uniform(static_cast<int>(threadIdx.x) / 32);
    if (warp == 0 && device::is_elected()) Producer<Tile, Sums>{s, maps}.run(params);
    if constexpr (kHasSums) {
      if (warp >= 1 && warp <= Tile::kSumFinishers) finish<Tile, Sums>(s, params, warp - 1);
    }
    __syncwarp();
  } else {
    device::raise_registers<Tile::kConsumerRegisters>();
    consume<Tile, Sums>(s, params, warpgroup - 1);
  }
  device::sync_cluster();  // a block must not exit while another one may still write to it
}

// The tile of all launches.
using Tile = AttentionTile;

// Maps the rows as (64 elements, tokens, 2 panels, heads).
CUtensorMap map_rows(const HeadRows<__nv_bfloat16>& rows, std::int64_t heads, std::int64_t tokens,
                     int box_rows, int box_panels) {
  constexpr std::int64_t kElementBytes = 2;
  return make_tensor_map(
      rows.g_data, std::array<std::int64_t, 4>{Tile::kPanel, tokens, 2, heads},
      std::array<std::int64_t, 3>{rows.token_stride * kElementBytes, Tile::kPanel * kElementBytes,
                                  rows.head_stride * kElementBytes},
      std::array{Tile::kPanel, box_rows, box_panels, 1});
}

TensorMaps make_maps(const DenseAttentionParams& params) {
  return {map_rows(params.q, params.heads, params.num_queries, Tile::kGroupRows, 2),
          map_rows(params.k, params.heads, params.num_keys, Tile::kKeys, 2 / kBlocks),
          map_rows(params.v, params.heads, params.num_keys, Tile::kKeys, 2 / kBlocks)};
}

KernelParams<Tile> make_params(const DenseAttentionParams& params) {
  KernelParams<Tile> kernel{};
  kernel.g_out = params.g_out;
  kernel.g_lse = params.g_lse;
  kernel.heads = static_cast<int>(params.heads);
  kernel.num_queries = static_cast<int>(params.num_queries);
  kernel.num_keys = static_cast<int>(params.num_keys);
  constexpr int kClusterQueries = kBlocks * Tile::kQueries;
  kernel.head_tiles = (kernel.num_queries + kClusterQueries - 1) / kClusterQueries;
  kernel.scale = params.scale;
  kernel.scale_log2 = params.scale * kLog2E;
  return kernel;
}

template <typename Sums>
void launch(const TensorMaps& maps, const KernelParams<Tile>& params, int num_multiprocessors,
            cudaStream_t stream) {
  constexpr int kSharedBytes = sizeof(Memory<Tile, Sums>) + 1024;  // and padding for the alignment
  const auto kernel = attention_kernel<Tile, Sums>;
  allow_shared_memory(kernel, kSharedBytes);
  const int clusters = std::min(num_multiprocessors / kBlocks, params.num_tiles());
  kernel<<<static_cast<unsigned>(clusters * kBlocks), Tile::kThreads, kSharedBytes, stream>>>(
      maps, params);
  check_launch("attention");
}

}  // namespace

void launch_attention(const DenseAttentionParams& params, int num_multiprocessors,
                      cudaStream_t stream) {
  launch<NoSums>(make_maps(params), make_params(params), num_multiprocessors, stream);
}

std::int64_t num_sums_scratch(const DenseAttentionParams& params) {
  return make_params(params).num_tiles();
}

void launch_attention_with_sums(const DenseAttentionParams& params, const AttentionSumsParams& sums,
                                int num_multiprocessors, cudaStream_t stream) {
  const TensorMaps maps = make_maps(params);
  KernelParams<Tile> kernel = make_params(params);
  const auto group_size = static_cast<int>(sums.group_size);
  kernel.sums = {.g_former = sums.g_former_lse,
                 .g_sums = sums.g_sums,
                 .num_groups = (kernel.num_queries + group_size - 1) / group_size,
                 .group_size = group_size,
                 .query_stride = static_cast<int>(std::min(sums.query_stride, sums.group_size))};
  kernel.g_marks = sums.g_scratch;
  const auto num_marks = static_cast<std::size_t>(kernel.num_tiles());
  check(cudaMemsetAsync(kernel.g_marks, 0, num_marks * sizeof(std::int32_t), stream),
        "clearing marks");
  if (kernel.sums.query_stride == 1) {
    launch<FormerSums<Tile, Counted::kAll>>(maps, kernel, num_multiprocessors, stream);
  } else if (kernel.sums.query_stride == 4) {
    launch<FormerSums<Tile, Counted::kEveryFourth>>(maps, kernel, num_multiprocessors, stream);
  } else {
    launch<FormerSums<Tile, Counted::kSome>>(maps, kernel, num_multiprocessors, stream);
  }
  launch<MaximumSums<Tile>>(maps, kernel, num_multiprocessors, stream);
}

}  // namespace mochi::cuda::sm90
