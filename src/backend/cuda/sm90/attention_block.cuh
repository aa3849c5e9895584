// Building blocks of attention on Hopper: a block of 192 queries in shared memory next to a ring of
// key tiles, and the warpgroups that compute. Each kernel fills the ring in its own way.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

#include "backend/cuda/device/mbarrier.cuh"
#include "backend/cuda/device/shared_memory.cuh"
#include "backend/cuda/device/threads.cuh"
#include "backend/cuda/device/wgmma.cuh"
#include "backend/cuda/sm90/attention.h"
#include "backend/cuda/sm90/attention_rows.cuh"

namespace mochi::cuda::sm90 {

// The sizes of a kernel's tiles, which are template arguments of everything that depends on them.
struct AttentionTile {
  static constexpr int kHeadDim = kAttentionHeadDim;
  // Elements of a row in one swizzled panel; a row has two panels.
  static constexpr int kPanel = 64;
  static constexpr int kGroup = 128;     // threads of a warpgroup
  static constexpr int kGroupRows = 64;  // queries of a warpgroup
  // Number of computing warpgroups; one more warpgroup fills the ring.
  static constexpr int kConsumers = 3;
  static constexpr int kQueries = kConsumers * kGroupRows;
  static constexpr int kKeys = 128;  // keys of a tile
  static constexpr int kStages = 2;
  static constexpr int kWarps = kGroup / 32;  // warps of a warpgroup
  static constexpr int kConsumerWarps = kConsumers * kWarps;
  static constexpr int kWarpRows = kGroupRows / kWarps;
  static constexpr int kThreads = (kConsumers + 1) * kGroup;
  static constexpr int kProducerRegisters = 32;
  static constexpr int kConsumerRegisters = 160;
  static constexpr int kSumFinishers = 2;  // warps that add up the computing warps' column sums

  static constexpr int kRowBytes = kHeadDim * 2;
  static constexpr int kCodeRowBytes = kHeadDim;              // bytes of a row of an F8_E4M3 cache
  static constexpr int kQueryBytes = kGroupRows * kRowBytes;  // queries of one warpgroup
  static constexpr int kPanelBytes = kKeys * kPanel * 2;
  static constexpr int kTileBytes = 2 * kPanelBytes;
};

struct Nothing {};

// Tiles are [2 panels][rows][64] bf16, swizzled by 128 bytes. There are kSlots buffers for queries.
template <typename TileOf, int kSlots, typename More = Nothing>
struct AttentionMemory {
  using Tile = TileOf;
  alignas(1024) std::byte s_q[kSlots][Tile::kConsumers][Tile::kQueryBytes];
  alignas(1024) std::byte s_k[Tile::kStages][Tile::kTileBytes];
  alignas(1024) std::byte s_v[Tile::kStages][Tile::kTileBytes];
  device::Barrier q_full[kSlots][Tile::kConsumers], q_empty[kSlots][Tile::kConsumers];
  device::Barrier k_full[Tile::kStages], k_empty[Tile::kStages];
  device::Barrier v_full[Tile::kStages], v_empty[Tile::kStages];
  More more;  // additional memory of one kernel
};

// Initialises the barriers. Called by one thread before a barrier of the cluster's `num_blocks`
// blocks, which share their key tiles. A tile is complete when `num_fillers` have arrived.
template <typename Tile, int kSlots, typename More>
__device__ void init_barriers(AttentionMemory<Tile, kSlots, More>& s, int num_blocks,
                              int num_fillers) {
  for (int slot = 0; slot < kSlots; ++slot) {
    for (int i = 0; i < Tile::kConsumers; ++i) {
      device::init_barrier(&s.q_full[slot][i], 1);
      device::init_barrier(&s.q_empty[slot][i], Tile::kWarps);
    }
  }
  for (int i = 0; i < Tile::kStages; ++i) {
    device::init_barrier(&s.k_full[i], num_fillers);
    device::init_barrier(&s.v_full[i], num_fillers);
    device::init_barrier(&s.k_empty[i], num_blocks * Tile::kConsumers * Tile::kWarps);
    device::init_barrier(&s.v_empty[i], num_blocks * Tile::kConsumers * Tile::kWarps);
  }
  device::fence_barrier_init();
}

// A position in the ring, counted from the first tile: its slot, and the parity of the phase in
// which it is filled.
template <typename Tile>
struct RingPosition {
  unsigned count = 0;
  __device__ unsigned slot() const { return count % Tile::kStages; }
  __device__ unsigned parity() const { return count / Tile::kStages % 2; }
};

// Ignores the weights that AttentionGroup passes to it.
struct NoSums {
  using Memory = Nothing;
  explicit __device__ NoSums(const Memory& = {}) {}

  __device__ void update_factors(const RowState& rows, float scale_log2) {}
  template <int kFrom, int kTo, int kSize>
  __device__ void combine_rows(const float (&weights)[kSize]) {}
  template <int kHalf, typename Tile>
  __device__ void write_sums(RingPosition<Tile> at) {}
  template <typename Tile>
  __device__ void publish(RingPosition<Tile> at) {}
};

// One warpgroup with its 64 queries. The kBlocks blocks of a cluster share their key tiles.
template <int kBlocks, typename Memory>
struct AttentionGroup {
  using Tile = typename Memory::Tile;

  Memory& s;
  const int group;
  RingPosition<Tile> at;
  int q_slot = 0;  // the buffer that holds the queries

  static constexpr int kLogits = Tile::kKeys / 2;  // logits of one thread
  static constexpr int kLogitSteps = Tile::kHeadDim / 16;
  static constexpr int kOutputSteps = Tile::kKeys / 16;
  using Logits = float[kLogits];
  using Output = float[Tile::kHeadDim / 2];
  using Weights = std::uint32_t[kOutputSteps][4];

  // Releases a key tile that this warp has finished reading.
  __device__ void release(device::Barrier* empty) {
    const unsigned block = threadIdx.x % 32;
    if (block < kBlocks) device::arrive_at(empty, block);
  }

  __device__ void start_logits(Logits& logits) {
    const std::uint64_t q = device::describe_k_rows(s.s_q[q_slot][group]);
    const std::uint64_t k = device::describe_k_rows(s.s_k[at.slot()]);
    device::fence_products();
#pragma unroll
    for (int step = 0; step < kLogitSteps; ++step) {
      const int panel = step / 4;
      const int column_bytes = step % 4 * 32;
      device::multiply(logits, device::advance(q, panel * Tile::kQueryBytes / 2 + column_bytes),
                       device::advance(k, panel * Tile::kPanelBytes + column_bytes), step > 0);
    }
    device::commit_products();
  }

  // Adds weights·V to the output, for steps [kFrom, kTo) of 16 keys.
  template <int kFrom, int kTo>
  __device__ void start_output(const Weights& weights, Output& output) {
    const std::uint64_t v = device::describe_n_rows(s.s_v[at.slot()], Tile::kPanelBytes);
    device::hold(output);
    device::fence_products();
#pragma unroll
    for (int step = kFrom; step < kTo; ++step) {
      device::multiply<true>(output, weights[step], device::advance(v, step * 16 * 128), true);
    }
    device::commit_products();
  }

  // Attends to all keys in the next ⌈num_keys / 128⌉ tiles of the ring. The matmul of the first
  // half of a tile's weights runs concurrently with the exponentials of the other half, and
  // everything runs concurrently with the other groups. `sums` gets all weights; it is NoSums or a
  // type of attention_sums.cuh. Calls on_last_logits() after the last use of this warp's part of
  // the queries.
  template <typename Sums, typename Fn>
  __device__ void attend(int num_keys, float scale_log2, RowState& rows, Output& output, Sums& sums,
                         Fn&& on_last_logits) {
    constexpr int kHalf = kLogits / 2;
    Logits logits;
    Weights weights;
    float offset[2] = {INFINITY, INFINITY};
    for (; num_keys > 0; num_keys -= Tile::kKeys, ++at.count) {
      device::wait(&s.k_full[at.slot()], at.parity());
      start_logits(logits);
      device::wait_products<0>();
      device::hold(logits);
      release(&s.k_empty[at.slot()]);
      if (num_keys <= Tile::kKeys) on_last_logits();
      if (num_keys < Tile::kKeys) mask_columns(logits, num_keys);
      float highest[2];
      find_highest(logits, highest);
      // True in the first tile, and rarely after it.
      if (must_rise(highest, scale_log2, offset)) {
        float shrink[2];
        raise_max(highest, scale_log2, rows, shrink, offset);
        multiply_rows(output, shrink);
        sums.update_factors(rows, scale_log2);
      }
      exponentiate<0, kHalf>(logits, scale_log2, offset, rows);
      sums.template combine_rows<0, kHalf>(logits);
      pack_rows<0, kHalf>(logits, weights);
      device::wait(&s.v_full[at.slot()], at.parity());
      start_output<0, kOutputSteps / 2>(weights, output);
      sums.template write_sums<0>(at);
      exponentiate<kHalf, kLogits>(logits, scale_log2, offset, rows);
      sums.template combine_rows<kHalf, kLogits>(logits);
      pack_rows<kHalf, kLogits>(logits, weights);
      start_output<kOutputSteps / 2, kOutputSteps>(weights, output);
      sums.template write_sums<1>(at);
      sums.publish(at);
      device::wait_products<0>();
      device::hold(output);
      release(&s.v_empty[at.slot()]);
    }
  }

  // Releases all tiles unused, for a group without queries.
  __device__ void skip(int num_keys) {
    for (; num_keys > 0; num_keys -= Tile::kKeys, ++at.count) {
      device::wait(&s.k_full[at.slot()], at.parity());
      release(&s.k_empty[at.slot()]);
      device::wait(&s.v_full[at.slot()], at.parity());
      release(&s.v_empty[at.slot()]);
    }
  }

  // Returns the buffer through which this warp's 16 rows of outputs pass: [2 panels][16][64],
  // swizzled by 128 bytes.
  __device__ std::byte* rows_of_warp() const {
    return s.s_q[q_slot][group] +
           device::thread_idx_here() % Tile::kGroup / 32 * 16 * Tile::kHeadDim * 2;
  }
  // Returns this thread's address in four 8×8 matrices with columns [16·i, 16·i + 16) of that
  // buffer.
  static __device__ std::byte* matrices_at(std::byte* s_rows, int i) {
    const int lane = device::thread_idx_here() % 32;
    const unsigned chunk = 2 * (i % 4) + lane / 16;
    return s_rows + i / 4 * 16 * 128 + device::swizzled_128b(lane % 16, chunk);
  }

  // Stores rows [first, num_rows), at most 64, to g_out [num_rows, row_size] bf16, which points to
  // the head's first column. The data passes through this group's buffer of queries, which are no
  // longer needed.
  __device__ void store(const Output& output, __nv_bfloat16* g_out, int first, int num_rows,
                        std::int64_t row_size) {
    const int thread = device::thread_idx_here();
    const int warp = thread % Tile::kGroup / 32;
    const int lane = thread % 32;
    std::byte* s_rows = rows_of_warp();
    device::sync_threads(1 + group, Tile::kGroup);
#pragma unroll
    for (int i = 0; i < Tile::kHeadDim / 16; ++i) {
      std::uint32_t packed[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        packed[j] = device::pack_bf16(output[8 * i + 2 * j], output[8 * i + 2 * j + 1]);
      }
      device::store_matrices(matrices_at(s_rows, i), packed);
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int row = 2 * i + lane / 16;
      const int chunk = lane % 16;
      const int to = first + warp * 16 + row;
      if (to >= num_rows) continue;
      *reinterpret_cast<uint4*>(g_out + to * row_size + chunk * 8) =
          *reinterpret_cast<const uint4*>(s_rows + chunk / 8 * 16 * 128 +
                                          device::swizzled_128b(row, chunk % 8));
    }
    release_queries();
  }

  // Releases this warp's part of the buffer of queries.
  __device__ void release_queries() {
    device::fence_async_shared();
    __syncwarp();
    if (device::thread_idx_here() % 32 == 0) device::arrive(&s.q_empty[q_slot][group]);
  }
};

// Divides `output` by the sums of the weights. Writes rows [first, first + 64) of the log-sum-exp
// to g_lse [num_rows] f32 unless it is null.
template <typename Tile>
__device__ inline void finish_rows(const RowState& rows, float scale, float* g_lse, int first,
                                   int num_rows, float (&output)[Tile::kHeadDim / 2]) {
  const int thread = device::thread_idx_here();
  float inverse[2];
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const float sum = sum_of_quad(rows.sum[row]);
    inverse[row] = 1.0F / sum;
    const int to = first + thread % Tile::kGroup / 32 * 16 + thread % 32 / 4 + 8 * row;
    if (g_lse != nullptr && thread % 4 == 0 && to < num_rows) {
      g_lse[to] = fmaf(rows.max[row], scale, logf(sum));
    }
  }
  multiply_rows(output, inverse);
}

}  // namespace mochi::cuda::sm90
