#include <algorithm>
#include <array>

#include "backend/cuda/cuda_check.h"
#include "backend/cuda/device/tma.cuh"
#include "backend/cuda/sm90/attention.h"
#include "backend/cuda/sm90/attention_block.cuh"
#include "backend/cuda/sm90/tensor_map.h"

namespace mochi::cuda::sm90 {
namespace {

using device::Barrier;

// Two blocks with neighbouring queries bring half of each key tile to both: half the traffic of L2.
constexpr int kBlocks = 2;
constexpr int kThreads = (kConsumers + 1) * kGroup;
constexpr int kProducerRegisters = 32;
constexpr int kConsumerRegisters = 160;

using Memory = AttentionMemory<1>;

struct KernelParams {
  __nv_bfloat16* g_out;  // [num_queries, heads·128]
  float* g_lse;          // [heads, num_queries], or null
  int heads, num_queries, num_keys;
  int head_tiles;  // of kBlocks·kQueries queries
  float scale, scale_log2;

  // Tiles are numbered with heads outermost: the keys of one stay in L2.
  __device__ int num_tiles() const { return heads * head_tiles; }
  __device__ int head_of(int tile) const { return tile / head_tiles; }
  // The first query of this block.
  __device__ int query_of(int tile) const {
    const int rank = static_cast<int>(device::cluster_rank());
    return (tile % head_tiles * kBlocks + rank) * kQueries;
  }
};

struct TensorMaps {
  CUtensorMap q, k, v;
};

// The one thread that starts all copies.
struct Producer {
  Memory& s;
  const TensorMaps& maps;
  RingPosition at;
  unsigned q_parity = 0;

  // This block's panel of a key tile, to all blocks.
  __device__ void load_keys(std::byte* s_tile, const CUtensorMap& map, int key, int head,
                            Barrier* full, Barrier* empty) {
    device::wait(empty, at.parity() ^ 1);
    device::arrive_expecting(full, kTileBytes);
    const int rank = static_cast<int>(device::cluster_rank());
    device::load_tile_to(s_tile + rank * kPanelBytes, map, {0, key, rank, head}, full,
                         (1 << kBlocks) - 1);
  }
  __device__ void load_queries(int query, int head) {
    for (int group = 0; group < kConsumers; ++group) {
      device::wait(&s.q_empty[0][group], q_parity ^ 1);
      device::arrive_expecting(&s.q_full[0][group], kQueryBytes);
      device::load_tile(s.s_q[0][group], maps.q, {0, query + group * kGroupRows, 0, head},
                        &s.q_full[0][group]);
    }
    q_parity ^= 1;
  }
  __device__ void run(const KernelParams& params) {
    for (int tile = blockIdx.x / kBlocks; tile < params.num_tiles(); tile += gridDim.x / kBlocks) {
      const int head = params.head_of(tile);
      for (int key = 0; key < params.num_keys; key += kKeys, ++at.count) {
        const unsigned slot = at.slot();
        load_keys(s.s_k[slot], maps.k, key, head, &s.k_full[slot], &s.k_empty[slot]);
        if (key == 0) load_queries(params.query_of(tile), head);
        load_keys(s.s_v[slot], maps.v, key, head, &s.v_full[slot], &s.v_empty[slot]);
      }
    }
  }
};

__device__ void consume(Memory& s, const KernelParams& params, int group) {
  using Group = AttentionGroup<kBlocks, Memory>;
  Group queries{s, group};
  unsigned q_parity = 0;
  for (int tile = blockIdx.x / kBlocks; tile < params.num_tiles(); tile += gridDim.x / kBlocks) {
    Group::Output output = {};
    RowState rows;
    device::wait(&s.q_full[0][group], q_parity);
    q_parity ^= 1;
    queries.attend(params.num_keys, params.scale_log2, rows, output, [] {});
    const int head = params.head_of(tile);
    const int first = params.query_of(tile) + group * kGroupRows;
    float* g_lse = params.g_lse == nullptr
                       ? nullptr
                       : params.g_lse + static_cast<std::int64_t>(head) * params.num_queries;
    finish_rows(rows, params.scale, g_lse, first, params.num_queries, output);
    queries.store(output, params.g_out + head * kHeadDim, first, params.num_queries,
                  static_cast<std::int64_t>(params.heads) * kHeadDim);
  }
}

__global__ void __cluster_dims__(kBlocks, 1, 1) __launch_bounds__(kThreads, 1)
    attention_kernel(const __grid_constant__ TensorMaps maps,
                     const __grid_constant__ KernelParams params) {
  extern __shared__ std::byte s_memory[];
  auto& s = *reinterpret_cast<Memory*>(s_memory +
                                       (1024 - device::shared_address(s_memory) % 1024) % 1024);
  if (threadIdx.x == 0) {
    device::prefetch_map(maps.q);
    device::prefetch_map(maps.k);
    device::prefetch_map(maps.v);
    init_barriers(s, kBlocks, 1);
  }
  device::sync_cluster();
  const int warpgroup = device::warp_uniform(static_cast<int>(threadIdx.x) / kGroup);
  if (warpgroup == 0) {
    device::lower_registers<kProducerRegisters>();
    if (threadIdx.x < 32 && device::is_elected()) Producer{s, maps}.run(params);
    __syncwarp();
  } else {
    device::raise_registers<kConsumerRegisters>();
    consume(s, params, warpgroup - 1);
  }
  device::sync_cluster();  // no block leaves while the other may still write to it
}

// [heads, tokens, 128] as (64 elements, tokens, 2 panels, heads).
CUtensorMap map_rows(const __nv_bfloat16* g_data, std::int64_t heads, std::int64_t tokens,
                     int box_rows, int box_panels) {
  constexpr std::int64_t kRowBytes = kHeadDim * 2;
  return make_tensor_map(g_data, std::array<std::int64_t, 4>{kPanel, tokens, 2, heads},
                         std::array<std::int64_t, 3>{kRowBytes, kRowBytes / 2, tokens * kRowBytes},
                         std::array{kPanel, box_rows, box_panels, 1});
}

}  // namespace

void launch_attention(const AttentionParams& params, cudaStream_t stream) {
  constexpr int kDevice = 0;
  int num_multiprocessors = 0;
  check(cudaDeviceGetAttribute(&num_multiprocessors, cudaDevAttrMultiProcessorCount, kDevice),
        "asking for the GPU's properties");
  constexpr int kSharedBytes = sizeof(Memory) + 1024;  // and to align it
  check(cudaFuncSetAttribute(attention_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kSharedBytes),
        "asking for shared memory");
  KernelParams kernel{};
  kernel.g_out = params.g_out;
  kernel.g_lse = params.g_lse;
  kernel.heads = static_cast<int>(params.heads);
  kernel.num_queries = static_cast<int>(params.num_queries);
  kernel.num_keys = static_cast<int>(params.num_keys);
  constexpr int kClusterQueries = kBlocks * kQueries;
  kernel.head_tiles = (kernel.num_queries + kClusterQueries - 1) / kClusterQueries;
  kernel.scale = params.scale;
  kernel.scale_log2 = params.scale * 1.4426950408889634F;  // log₂(e)
  const TensorMaps maps{map_rows(params.g_q, params.heads, params.num_queries, kGroupRows, 2),
                        map_rows(params.g_k, params.heads, params.num_keys, kKeys, 2 / kBlocks),
                        map_rows(params.g_v, params.heads, params.num_keys, kKeys, 2 / kBlocks)};
  const int clusters = std::min(num_multiprocessors / kBlocks, kernel.heads * kernel.head_tiles);
  attention_kernel<<<static_cast<unsigned>(clusters * kBlocks), kThreads, kSharedBytes, stream>>>(
      maps, kernel);
  check_launch("attention");
}

}  // namespace mochi::cuda::sm90
