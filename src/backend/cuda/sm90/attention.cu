#include <algorithm>
#include <array>
#include <cstddef>

#include "backend/cuda/cuda_check.h"
#include "backend/cuda/device/mbarrier.cuh"
#include "backend/cuda/device/shared_memory.cuh"
#include "backend/cuda/device/threads.cuh"
#include "backend/cuda/device/tma.cuh"
#include "backend/cuda/device/wgmma.cuh"
#include "backend/cuda/sm90/attention.h"
#include "backend/cuda/sm90/attention_rows.cuh"
#include "backend/cuda/sm90/tensor_map.h"

namespace mochi::cuda::sm90 {
namespace {

using device::Barrier;

constexpr int kHeadDim = 128;
constexpr int kPanel = 64;      // elements of a row in one swizzled panel; a row has two
constexpr int kGroupRows = 64;  // queries of one warpgroup
constexpr int kGroup = 128;     // threads of a warpgroup
constexpr int kStages = 2;
constexpr int kLogitSteps = kHeadDim / 16;

// What one block works on at a time.
template <int kConsumers_, int kKeys_, bool kOverlap_, bool kOrdered_>
struct Shape {
  static constexpr int kConsumers = kConsumers_;  // warpgroups, 64 queries each
  static constexpr int kKeys = kKeys_;            // of one key tile
  static constexpr bool kOverlap = kOverlap_;     // a group's softmax with its own products
  static constexpr bool kOrdered = kOrdered_;     // groups take turns at starting products
  static constexpr int kQueries = kConsumers * kGroupRows;
  static constexpr int kThreads = (kConsumers + 1) * kGroup;
  static constexpr int kProducerRegisters = kConsumers == 2 ? 24 : 32;
  static constexpr int kConsumerRegisters = kConsumers == 2 ? 240 : 160;
  static constexpr int kPanelBytes = kKeys * kPanel * 2;
  static constexpr int kTileBytes = 2 * kPanelBytes;
  static constexpr int kValueSteps = kKeys / 16;
};

constexpr int kQueryBytes = kGroupRows * kHeadDim * 2;  // of one warpgroup

// Tiles are [2 panels][rows][64] bf16, swizzled.
template <class Shape>
struct SharedMemory {
  alignas(1024) std::byte s_q[Shape::kConsumers][kQueryBytes];
  alignas(1024) std::byte s_k[kStages][Shape::kTileBytes];
  alignas(1024) std::byte s_v[kStages][Shape::kTileBytes];
  Barrier q_full[Shape::kConsumers], q_empty[Shape::kConsumers];
  Barrier k_full[kStages], k_empty[kStages];
  Barrier v_full[kStages], v_empty[kStages];
};

struct KernelParams {
  __nv_bfloat16* g_out;  // [num_queries, heads·128]
  float* g_lse;          // [heads, num_queries], or null
  int heads, num_queries, num_keys;
  int query_tiles, num_tiles, key_tiles;
  float scale, scale_log2;
};

// A position in a ring of kStages, and which time around it is.
struct RingPosition {
  int slot = 0;
  unsigned parity = 0;
  __device__ void advance() {
    if (++slot == kStages) {
      slot = 0;
      parity ^= 1;
    }
  }
};

// The one thread that starts all copies. K runs one tile ahead of V, as consumers want them.
template <class Shape>
struct Producer {
  SharedMemory<Shape>& s;
  const CUtensorMap& q_map;
  const CUtensorMap& k_map;
  const CUtensorMap& v_map;
  RingPosition k_at, v_at;
  unsigned q_parity = 0;

  __device__ void load_keys(int tile, int head) {
    device::wait(&s.k_empty[k_at.slot], k_at.parity ^ 1);
    device::arrive_expecting(&s.k_full[k_at.slot], Shape::kTileBytes);
    device::load_tile(s.s_k[k_at.slot], k_map, {0, tile * Shape::kKeys, 0, head},
                      &s.k_full[k_at.slot]);
    k_at.advance();
  }
  __device__ void load_values(int tile, int head) {
    device::wait(&s.v_empty[v_at.slot], v_at.parity ^ 1);
    device::arrive_expecting(&s.v_full[v_at.slot], Shape::kTileBytes);
    device::load_tile(s.s_v[v_at.slot], v_map, {0, tile * Shape::kKeys, 0, head},
                      &s.v_full[v_at.slot]);
    v_at.advance();
  }
  __device__ void load_queries(int query, int head) {
    for (int group = 0; group < Shape::kConsumers; ++group) {
      device::wait(&s.q_empty[group], q_parity ^ 1);
      device::arrive_expecting(&s.q_full[group], kQueryBytes);
      device::load_tile(s.s_q[group], q_map, {0, query + group * kGroupRows, 0, head},
                        &s.q_full[group]);
    }
    q_parity ^= 1;
  }
  __device__ void run(const KernelParams& params) {
    for (int tile = blockIdx.x; tile < params.num_tiles; tile += gridDim.x) {
      const int head = tile / params.query_tiles;
      load_keys(0, head);
      load_queries(tile % params.query_tiles * Shape::kQueries, head);
      for (int i = 0; i < params.key_tiles; ++i) {
        if (i + 1 < params.key_tiles) load_keys(i + 1, head);
        load_values(i, head);
      }
    }
  }
};

// One warpgroup: 64 queries at a time against all keys.
template <class Shape>
struct Consumer {
  SharedMemory<Shape>& s;
  const KernelParams& params;
  const int group;
  RingPosition k_at, v_at;
  unsigned q_parity = 0;
  RowState rows;

  using Logits = float[Shape::kKeys / 2];
  using Output = float[kHeadDim / 2];
  using Weights = std::uint32_t[Shape::kValueSteps][4];

  __device__ void release(Barrier* barrier) {
    if (threadIdx.x % 32 == 0) device::arrive(barrier);
  }
  __device__ void await_turn() {
    if constexpr (Shape::kOrdered) device::sync_threads(1 + group, 2 * kGroup);
  }
  __device__ void pass_turn() {
    if constexpr (Shape::kOrdered) {
      device::arrive_threads(group + 1 == Shape::kConsumers ? 1 : 2 + group, 2 * kGroup);
    }
  }

  // Q·Kᵀ of the key tile at k_at.
  __device__ void start_logits(Logits& logits) {
    const std::uint64_t q = device::describe_k_rows(s.s_q[group]);
    const std::uint64_t k = device::describe_k_rows(s.s_k[k_at.slot]);
#pragma unroll
    for (int step = 0; step < kLogitSteps; ++step) {
      const int panel = step / 4;
      const int column_bytes = step % 4 * 32;
      device::multiply(logits, device::advance(q, panel * kQueryBytes / 2 + column_bytes),
                       device::advance(k, panel * Shape::kPanelBytes + column_bytes), step > 0);
    }
    device::commit_products();
  }
  // Output += weights·V of the key tile at v_at.
  __device__ void start_output(const Weights& weights, Output& output) {
    const std::uint64_t v = device::describe_n_rows(s.s_v[v_at.slot], Shape::kPanelBytes);
#pragma unroll
    for (int step = 0; step < Shape::kValueSteps; ++step) {
      device::multiply<true>(output, weights[step], device::advance(v, step * 16 * 128), true);
    }
    device::commit_products();
  }
  __device__ void await_keys() { device::wait(&s.k_full[k_at.slot], k_at.parity); }
  __device__ void await_values() { device::wait(&s.v_full[v_at.slot], v_at.parity); }
  __device__ void release_keys() {
    release(&s.k_empty[k_at.slot]);
    k_at.advance();
  }
  __device__ void release_values() {
    release(&s.v_empty[v_at.slot]);
    v_at.advance();
  }
  __device__ void soften(int key_tile, Logits& logits, float (&shrink)[2]) {
    const int num_valid = params.num_keys - key_tile * Shape::kKeys;
    if (num_valid < Shape::kKeys) mask_columns(logits, num_valid);
    exponentiate(logits, params.scale_log2, rows, shrink);
  }

  // The products of a key tile's logits and of the former tile's output are under way together, and
  // the softmax goes beside the latter.
  __device__ void attend_overlapped(Output& output) {
    Logits logits;
    Weights weights;
    float shrink[2];
    await_keys();
    device::fence_products();
    start_logits(logits);
    device::wait_products<0>();
    device::hold(logits);
    release_keys();
    soften(0, logits, shrink);
    pack_rows(logits, weights);
    for (int tile = 1; tile < params.key_tiles; ++tile) {
      await_keys();
      await_turn();
      device::hold(output);
      device::fence_products();
      start_logits(logits);
      await_values();
      device::fence_products();
      start_output(weights, output);
      pass_turn();
      device::wait_products<1>();
      device::hold(logits);
      release_keys();
      soften(tile, logits, shrink);
      device::wait_products<0>();
      device::hold(output);
      release_values();
      device::hold(logits);
      pack_rows(logits, weights);
      multiply_rows(output, shrink);
    }
    await_values();
    device::hold(output);
    device::fence_products();
    start_output(weights, output);
    device::wait_products<0>();
    device::hold(output);
    release_values();
  }

  // One after the other: the tensor cores are kept busy by the other warpgroups.
  __device__ void attend_in_turn(Output& output) {
    Logits logits;
    Weights weights;
    float shrink[2];
    for (int tile = 0; tile < params.key_tiles; ++tile) {
      await_keys();
      await_turn();
      device::fence_products();
      start_logits(logits);
      pass_turn();
      device::wait_products<0>();
      device::hold(logits);
      release_keys();
      soften(tile, logits, shrink);
      pack_rows(logits, weights);
      multiply_rows(output, shrink);
      await_values();
      device::hold(output);
      device::fence_products();
      start_output(weights, output);
      device::wait_products<0>();
      device::hold(output);
      release_values();
    }
  }

  // Output rows to global memory, by way of this group's place for queries, which are done with.
  __device__ void store(const Output& output, int query, int head) {
    const int warp = static_cast<int>(threadIdx.x) % kGroup / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    std::byte* s_rows = s.s_q[group] + warp * 16 * kHeadDim * 2;  // 16 rows of [2 panels][16][64]
    device::sync_threads(1 + Shape::kConsumers + group, kGroup);
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i) {
      const std::uint32_t packed[4] = {device::pack_bf16(output[8 * i], output[8 * i + 1]),
                                       device::pack_bf16(output[8 * i + 2], output[8 * i + 3]),
                                       device::pack_bf16(output[8 * i + 4], output[8 * i + 5]),
                                       device::pack_bf16(output[8 * i + 6], output[8 * i + 7])};
      const unsigned chunk = 2 * (i % 4) + lane / 16;
      device::store_matrices(s_rows + i / 4 * 16 * 128 + device::swizzled_128b(lane % 16, chunk),
                             packed);
    }
    __syncwarp();
    const std::int64_t row_size = static_cast<std::int64_t>(params.heads) * kHeadDim;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int row = 2 * i + lane / 16;
      const int chunk = lane % 16;
      const uint4 packed = *reinterpret_cast<const uint4*>(s_rows + chunk / 8 * 16 * 128 +
                                                           device::swizzled_128b(row, chunk % 8));
      const int to = query + warp * 16 + row;
      if (to < params.num_queries) {
        *reinterpret_cast<uint4*>(params.g_out + to * row_size + head * kHeadDim + chunk * 8) =
            packed;
      }
    }
  }

  // `output` becomes what it is by the sums of the weights; the log-sum-exp is stored.
  __device__ void finish(Output& output, int query, int head) {
    float inverse[2];
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int first = query + static_cast<int>(threadIdx.x) % kGroup / 32 * 16 + lane / 4;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float sum = sum_of_quad(rows.sum[row]);
      inverse[row] = 1.0F / sum;
      const int to = first + 8 * row;
      if (params.g_lse != nullptr && lane % 4 == 0 && to < params.num_queries) {
        params.g_lse[static_cast<std::int64_t>(head) * params.num_queries + to] =
            fmaf(rows.max[row], params.scale, logf(sum));
      }
    }
    multiply_rows(output, inverse);
  }

  __device__ void run() {
    if (group == Shape::kConsumers - 1) pass_turn();  // the first is the first group's
    for (int tile = blockIdx.x; tile < params.num_tiles; tile += gridDim.x) {
      const int head = tile / params.query_tiles;
      const int query = tile % params.query_tiles * Shape::kQueries + group * kGroupRows;
      Output output = {};
      rows = RowState{};
      device::wait(&s.q_full[group], q_parity);
      q_parity ^= 1;
      if constexpr (Shape::kOverlap) {
        attend_overlapped(output);
      } else {
        attend_in_turn(output);
      }
      finish(output, query, head);
      store(output, query, head);
      device::fence_async_shared();
      __syncwarp();
      release(&s.q_empty[group]);
    }
    if (group == 0) await_turn();  // nobody leaves a barrier half full
  }
};

template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    attention_kernel(const __grid_constant__ CUtensorMap q_map,
                     const __grid_constant__ CUtensorMap k_map,
                     const __grid_constant__ CUtensorMap v_map,
                     const __grid_constant__ KernelParams params) {
  extern __shared__ std::byte s_memory[];
  auto& s = *reinterpret_cast<SharedMemory<Shape>*>(
      s_memory + (1024 - device::shared_address(s_memory) % 1024) % 1024);
  if (threadIdx.x == 0) {
    device::prefetch_map(q_map);
    device::prefetch_map(k_map);
    device::prefetch_map(v_map);
    constexpr int kWarps = 4;
    for (int i = 0; i < Shape::kConsumers; ++i) {
      device::init_barrier(&s.q_full[i], 1);
      device::init_barrier(&s.q_empty[i], kWarps);
    }
    for (int i = 0; i < kStages; ++i) {
      device::init_barrier(&s.k_full[i], 1);
      device::init_barrier(&s.v_full[i], 1);
      device::init_barrier(&s.k_empty[i], Shape::kConsumers * kWarps);
      device::init_barrier(&s.v_empty[i], Shape::kConsumers * kWarps);
    }
    device::fence_barrier_init();
  }
  __syncthreads();
  const int warpgroup = device::warp_uniform(static_cast<int>(threadIdx.x) / kGroup);
  if (warpgroup == 0) {
    device::lower_registers<Shape::kProducerRegisters>();
    if (threadIdx.x < 32 && device::is_elected()) {
      Producer<Shape>{s, q_map, k_map, v_map}.run(params);
    }
  } else {
    device::raise_registers<Shape::kConsumerRegisters>();
    Consumer<Shape>{s, params, warpgroup - 1}.run();
  }
}

// [heads, tokens, 128] as (64 elements, tokens, 2 panels, heads): a box is `rows` whole rows.
CUtensorMap map_rows(const __nv_bfloat16* g_data, std::int64_t heads, std::int64_t tokens,
                     int rows) {
  constexpr std::int64_t kRowBytes = kHeadDim * 2;
  return make_tensor_map(g_data, std::array<std::int64_t, 4>{kPanel, tokens, 2, heads},
                         std::array<std::int64_t, 3>{kRowBytes, kRowBytes / 2, tokens * kRowBytes},
                         std::array{kPanel, rows, 2, 1});
}

template <class Shape>
void launch(const AttentionParams& params, cudaStream_t stream) {
  constexpr int kDevice = 0;
  int num_multiprocessors = 0;
  check(cudaDeviceGetAttribute(&num_multiprocessors, cudaDevAttrMultiProcessorCount, kDevice),
        "asking for the GPU's properties");
  constexpr int kSharedBytes = sizeof(SharedMemory<Shape>) + 1024;  // and to align it
  check(cudaFuncSetAttribute(attention_kernel<Shape>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kSharedBytes),
        "asking for shared memory");
  KernelParams kernel{};
  kernel.g_out = params.g_out;
  kernel.g_lse = params.g_lse;
  kernel.heads = static_cast<int>(params.heads);
  kernel.num_queries = static_cast<int>(params.num_queries);
  kernel.num_keys = static_cast<int>(params.num_keys);
  kernel.query_tiles = (kernel.num_queries + Shape::kQueries - 1) / Shape::kQueries;
  kernel.num_tiles = kernel.query_tiles * kernel.heads;
  kernel.key_tiles = (kernel.num_keys + Shape::kKeys - 1) / Shape::kKeys;
  kernel.scale = params.scale;
  kernel.scale_log2 = params.scale * 1.4426950408889634F;
  const unsigned blocks = std::min(num_multiprocessors, kernel.num_tiles);
  attention_kernel<Shape><<<blocks, Shape::kThreads, kSharedBytes, stream>>>(
      map_rows(params.g_q, params.heads, params.num_queries, kGroupRows),
      map_rows(params.g_k, params.heads, params.num_keys, Shape::kKeys),
      map_rows(params.g_v, params.heads, params.num_keys, Shape::kKeys), kernel);
  check_launch("attention");
}

}  // namespace

void launch_attention(const AttentionParams& params, cudaStream_t stream) {
  launch<Shape<2, 176, true, true>>(params, stream);
}

}  // namespace mochi::cuda::sm90
