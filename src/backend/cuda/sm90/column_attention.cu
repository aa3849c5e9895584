#include <algorithm>

#include "backend/cuda/common/cuda_check.h"
#include "backend/cuda/common/float8.cuh"
#include "backend/cuda/common/shared_memory_limit.h"
#include "backend/cuda/device/cp_async.cuh"
#include "backend/cuda/device/tma.cuh"
#include "backend/cuda/sm90/attention_block.cuh"
#include "backend/cuda/sm90/column_attention.h"
#include "backend/cuda/sm90/column_maps.cuh"
#include "backend/cuda/sm90/column_tasks.cuh"

namespace mochi::cuda::sm90 {
namespace {

using device::Barrier;

constexpr int kSlots = 2;  // the queries of the next task are loaded while this one is computed
constexpr int kTaskSlots = 4;

template <typename Tile>
struct TaskMemory {
  // A slot is written when the previous task begins, long after its last use has ended.
  ColumnTask tasks[kTaskSlots];
  alignas(16) int rows[Tile::kStages][Tile::kKeys];  // rows of k and v for each slot of the ring
  Barrier cache_full[Tile::kConsumers][Tile::kWarps];
};

template <typename Tile>
using Memory = AttentionMemory<Tile, kSlots, TaskMemory<Tile>>;

// The warpgroup that gathers keys and values, with all its threads. Each thread copies 16 bytes of
// both panels of every sixteenth row of a tile, so that one address serves two copies. The
// instructions that this takes from the other groups cost more than the bytes.
template <typename Tile>
struct Producer {
  // The consumers have one barrier each.
  static constexpr int kProducersBarrier = 1 + Tile::kConsumers;

  Memory<Tile>& s;
  TaskMemory<Tile>& t;
  const ColumnMaps& maps;
  const ColumnParams& p;
  const TaskQueue& queue;
  RingPosition<Tile> at;
  bool is_pending = false;  // copies of the previous piece were started but not announced yet

  __device__ bool is_leader() const { return device::thread_idx_here() == 0; }

  // Announces that the copies of earlier pieces are complete, to those that wait for the last of
  // them.
  __device__ void announce(Barrier* full) {
    device::fence_async_shared();
    __syncwarp();
    if (device::thread_idx_here() % 32 == 0) device::arrive(full);
    is_pending = false;
  }

  // Waits for a free slot. If there is none yet, announces the copies in progress first.
  __device__ void await_place(Barrier* empty, Barrier* former_full) {
    const unsigned parity = at.parity() ^ 1;
    if (__all_sync(~0U, device::is_phase_over(empty, parity))) return;
    flush(former_full);
    device::wait(empty, parity);
  }
  __device__ void flush(Barrier* former_full) {
    if (!is_pending) return;
    device::wait_copies<0>();
    announce(former_full);
  }
  // Ends a piece and announces the previous one.
  __device__ void commit(Barrier* former_full) {
    device::commit_copies();
    if (is_pending) {
      device::wait_copies<1>();
      announce(former_full);
    }
    is_pending = true;
  }
  __device__ Barrier* v_before() {
    return &s.v_full[(at.slot() + Tile::kStages - 1) % Tile::kStages];
  }

  // Starts to copy the row numbers of a tile to the ring's `slot`. From this tile on, the list has
  // num_left columns; beyond its end the last one is repeated. Thread 8·i + j handles row 16·j + i,
  // so that the numbers that a thread will need are contiguous and come from its own warp.
  __device__ void start_rows(const ColumnTask& task, int num_left, unsigned slot) {
    __syncwarp();  // all lanes have read those of the previous tile
    const unsigned thread = device::thread_idx_here();
    const int i = static_cast<int>(thread % 8 * 16 + thread / 8);
    const unsigned column = task.first_column + task.num_keys + min(i - num_left, -1);
    device::copy_4_bytes(&t.rows[slot][thread], p.g_columns + column);
  }

  // g_rows points to this thread's first 16 bytes of the head's first row.
  __device__ void gather(const std::byte* g_rows, std::byte* s_tile) {
    const unsigned thread = device::thread_idx_here();
    const auto* s_rows = reinterpret_cast<const uint4*>(&t.rows[at.slot()][thread / 8 * 8]);
    std::byte* s_to = s_tile + device::swizzled_128b(thread / 8, thread % 8);
    const uint4 fours[2] = {s_rows[0], s_rows[1]};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const unsigned rows[4] = {fours[i].x, fours[i].y, fours[i].z, fours[i].w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const std::byte* g_row = device::address_of_row<Tile::kRowBytes>(g_rows, rows[j]);
        std::byte* s_row = s_to + (4 * i + j) * 16 * 128;
        device::copy_16_bytes(s_row, g_row);
        device::copy_16_bytes(s_row + Tile::kPanelBytes, g_row + Tile::kRowBytes / 2);
      }
    }
  }

  // Called by the leader, as part of a piece. If `ticket` is not below the number of tasks, all of
  // them have been handed out.
  __device__ void start_task_copy(unsigned n, unsigned ticket) {
    auto* s_task = reinterpret_cast<std::byte*>(&t.tasks[device::value_here(n) % kTaskSlots]);
    const bool is_there = ticket < queue.num_tasks;
    const auto* g_task =
        reinterpret_cast<const std::byte*>(queue.g_tasks + (is_there ? ticket : 0));
    device::copy_16_bytes(s_task, g_task, is_there);
    device::copy_16_bytes(s_task + 16, g_task + 16, is_there);
  }

  // Called by the leader: loads the queries of the block's n-th task.
  __device__ void load_queries(const ColumnTask& task, unsigned n) {
    const unsigned slot = device::value_here(n) % kSlots;
#pragma unroll 1
    for (int group = 0; group < Tile::kConsumers; ++group) {
      const int first = group * Tile::kGroupRows;
      Barrier* full = &s.q_full[slot][group];
      device::wait(&s.q_empty[slot][group], n / kSlots % 2 ^ 1);
      if (first < task.num_queries) {
        device::arrive_expecting(full, Tile::kQueryBytes);
        device::load_tile(s.s_q[slot][group], maps.q, {0, task.first_query + first, 0, task.head},
                          full);
      } else {
        device::arrive(full);
      }
    }
  }

  __device__ const ColumnTask& task_of(unsigned n) const {
    return t.tasks[device::value_here(n) % kTaskSlots];
  }

  // Loads the tiles of the n-th task of this block.
  __device__ void run_task(unsigned n) {
    if (is_leader()) load_queries(task_of(n), n);
    __syncwarp();
    const std::byte* g_keys =
        reinterpret_cast<const std::byte*>(p.k.g_data) +
        static_cast<std::int64_t>(task_of(n).head) * p.num_keys * Tile::kRowBytes +
        threadIdx.x % 8 * 16;
    unsigned ticket = 0;
    for (int num_left = task_of(n).num_keys; num_left > 0; num_left -= Tile::kKeys, ++at.count) {
      const unsigned slot = at.slot();
      await_place(&s.k_empty[slot], v_before());
      gather(g_keys, s.s_k[slot]);
      const bool is_first = num_left == task_of(n).num_keys;
      // The next task is taken late, so that a busy block does not take what another one could
      // compute.
      if (num_left <= 4 * Tile::kKeys && is_leader()) {
        if (num_left > 3 * Tile::kKeys || is_first) ticket = atomicAdd(queue.g_num_taken, 1U);
        if (num_left <= 3 * Tile::kKeys && (num_left > 2 * Tile::kKeys || is_first)) {
          start_task_copy(n + 1, ticket);
        }
      }
      if (num_left > Tile::kKeys) {
        start_rows(task_of(n), num_left - Tile::kKeys, slot ^ 1);
      } else {
        if (is_first) wait_for_all();
        device::sync_threads(kProducersBarrier, Tile::kGroup);
        const ColumnTask& next = task_of(n + 1);
        if (next.num_keys > 0) start_rows(next, next.num_keys, slot ^ 1);
      }
      commit(v_before());
      await_place(&s.v_empty[slot], &s.k_full[slot]);
      gather(g_keys + (reinterpret_cast<const std::byte*>(p.v.g_data) -
                       reinterpret_cast<const std::byte*>(p.k.g_data)),
             s.s_v[slot]);
      commit(&s.k_full[slot]);
    }
  }

  __device__ void run() {
    if (is_leader()) start_task_copy(0, blockIdx.x);
    wait_for_all();
    device::sync_threads(kProducersBarrier, Tile::kGroup);
    start_rows(t.tasks[0], t.tasks[0].num_keys, 0);
    wait_for_all();
    __syncwarp();
    unsigned n = 0;
    for (; task_of(n).num_keys > 0; ++n) run_task(n);
    flush(v_before());
    if (is_leader()) load_queries(ColumnTask{}, n);
  }

  __device__ static void wait_for_all() {
    device::commit_copies();
    device::wait_copies<0>();
  }
};

// One of the computing warpgroups.
template <typename Tile>
struct Consumer {
  using Group = AttentionGroup<1, Memory<Tile>>;

  Group group;
  TaskMemory<Tile>& t;
  const ColumnMaps& maps;
  const ColumnParams& p;
  unsigned cache_parity = 0;

  __device__ Barrier* cache_full() const {
    return &t.cache_full[group.group][device::thread_idx_here() % Tile::kGroup / 32];
  }

  // Starts to copy this warp's rows of the cache to the buffer that held the queries.
  __device__ void start_cache(const ColumnTask& task) {
    if (p.g_cache == nullptr) return;
    // This warp's rows are spread over the parts of all warps.
    device::sync_threads(1 + group.group, Tile::kGroup);
    const int thread = device::thread_idx_here() % Tile::kGroup;
    if (thread % 32 != 0) return;
    const int query =
        task.first_query + group.group * Tile::kGroupRows + thread / 32 * Tile::kWarpRows;
    device::arrive_expecting(
        cache_full(),
        Tile::kWarpRows * (p.g_cache_scale == nullptr ? Tile::kRowBytes : Tile::kCodeRowBytes));
    device::load_tile(group.rows_of_warp(), maps.cache, {0, query, 0, task.head}, cache_full());
  }

  // output += shares · cache.
  __device__ void add_cache(const float (&shares)[2], typename Group::Output& output) {
    device::wait(cache_full(), cache_parity);
    cache_parity ^= 1;
    if (p.g_cache_scale == nullptr) {
      add_activations(shares, output);
    } else {
      add_codes(shares, output);
    }
    __syncwarp();
  }
  __device__ void add_activations(const float (&shares)[2], typename Group::Output& output) {
    std::byte* s_rows = group.rows_of_warp();
#pragma unroll
    for (int i = 0; i < Tile::kHeadDim / 16; ++i) {
      std::uint32_t cached[4];
      device::load_matrices(cached, Group::matrices_at(s_rows, i));
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        output[8 * i + 2 * j] += shares[j % 2] * __uint_as_float(cached[j] << 16);
        output[8 * i + 2 * j + 1] += shares[j % 2] * __uint_as_float(cached[j] & 0xffff0000U);
      }
    }
  }
  // Adds an F8_E4M3 cache: [16][128], swizzled by 128 bytes; this thread has 2 of every 8 columns.
  __device__ void add_codes(const float (&shares)[2], typename Group::Output& output) {
    const unsigned lane = device::thread_idx_here() % 32;
    const std::byte* s_codes = group.rows_of_warp() + 2 * (lane % 4);
#pragma unroll
    for (int i = 0; i < Tile::kHeadDim / 16; ++i) {
      const std::byte* s_chunk = s_codes + device::swizzled_128b(lane / 4, i);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float2 cached = unpack_f8(*reinterpret_cast<const std::uint16_t*>(
            s_chunk + j % 2 * 8 * Tile::kCodeRowBytes + j / 2 * 8));
        output[8 * i + 2 * j] += shares[j % 2] * cached.x;
        output[8 * i + 2 * j + 1] += shares[j % 2] * cached.y;
      }
    }
  }

  // Turns the sums into the result. `first` is the group's first query; num_queries counts from
  // query 0 to the end of the task.
  __device__ void finish(const RowState& rows, int head, int first, int num_queries,
                         typename Group::Output& output) {
    const unsigned thread = device::thread_idx_here();
    first += static_cast<int>(thread % Tile::kGroup / 32 * Tile::kWarpRows + thread % 32 / 4);
    float factors[2];
    float cached[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float sum = sum_of_quad(rows.sum[row]);
      const float lse = fmaf(rows.max[row], p.scale, logf(sum));
      const int query = first + 8 * row;
      Shares shares;
      if (query < num_queries) {
        const std::int64_t at = p.row_of(head, query);
        if (p.g_lse != nullptr && thread % 4 == 0) p.g_lse[at] = lse;
        shares = find_shares(p, at, lse);
      }
      factors[row] = __fdividef(shares.chosen, sum);
      cached[row] = shares.cached;
    }
    multiply_rows(output, factors);
    if (p.g_cache != nullptr) add_cache(cached, output);
  }

  __device__ void run_task(const ColumnTask& task, float scale_log2) {
    const int first = task.first_query + group.group * Tile::kGroupRows;
    const int end = task.first_query + task.num_queries;
    if (first >= end) {
      group.skip(task.num_keys);
      group.release_queries();
      return;
    }
    typename Group::Output output = {};
    RowState rows;
    NoSums no_sums;
    group.attend(task.num_keys, scale_log2, rows, output, no_sums, [&] { start_cache(task); });
    finish(rows, task.head, first, end, output);
    group.store(output, p.g_out + task.head * Tile::kHeadDim, first, end,
                static_cast<std::int64_t>(p.num_heads) * Tile::kHeadDim);
  }

  __device__ void run() {
    const float scale_log2 = p.scale * kLog2E;
    for (unsigned n = 0;; ++n) {
      group.q_slot = static_cast<int>(n % kSlots);
      device::wait(&group.s.q_full[group.q_slot][group.group], n / kSlots % 2);
      const ColumnTask& task = t.tasks[n % kTaskSlots];
      if (task.num_keys == 0) break;
      run_task(task, scale_log2);
    }
  }
};

template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    column_attention_kernel(const __grid_constant__ ColumnMaps maps,
                            const __grid_constant__ ColumnParams p,
                            const __grid_constant__ TaskQueue queue) {
  extern __shared__ std::byte s_memory[];
  auto& s = *reinterpret_cast<Memory<Tile>*>(
      s_memory + (1024 - device::shared_address(s_memory) % 1024) % 1024);
  TaskMemory<Tile>& t = s.more;
  if (threadIdx.x == 0) {
    device::prefetch_map(maps.q);
    device::prefetch_map(maps.cache);
    for (auto& barriers : t.cache_full) {
      for (Barrier& barrier : barriers) device::init_barrier(&barrier, 1);
    }
    init_barriers(s, 1, Tile::kWarps);
  }
  __syncthreads();
  const int warpgroup = device::warp_uniform(static_cast<int>(threadIdx.x) / Tile::kGroup);
  if (warpgroup == 0) {
    device::lower_registers<Tile::kProducerRegisters>();
    Producer<Tile>{s, t, maps, p, queue}.run();
  } else {
    device::raise_registers<Tile::kConsumerRegisters>();
    Consumer<Tile>{{s, warpgroup - 1}, t, maps, p}.run();
  }
}

// The tile of all launches.
using Tile = AttentionTile;

unsigned count_tasks(const ColumnParams& p) {
  return static_cast<unsigned>(p.num_heads) * static_cast<unsigned>(p.num_groups) *
         static_cast<unsigned>(tasks_per_group<Tile>(p));
}

}  // namespace

std::size_t column_attention_workspace(const ColumnParams& params) {
  return count_tasks(params) * sizeof(ColumnTask) + sizeof(unsigned);
}

void launch_column_attention(const ColumnParams& params, std::byte* g_workspace,
                             int num_multiprocessors, cudaStream_t stream) {
  constexpr int kSharedBytes = sizeof(Memory<Tile>) + 1024;  // and padding for the alignment
  static_assert(kSharedBytes <= 227 * 1024);
  allow_shared_memory(column_attention_kernel<Tile>, kSharedBytes);
  auto* g_tasks = reinterpret_cast<ColumnTask*>(g_workspace);
  const unsigned num_tasks = count_tasks(params);
  const TaskQueue queue{g_tasks, reinterpret_cast<unsigned*>(g_tasks + num_tasks), num_tasks};
  const unsigned num_blocks = std::min(static_cast<unsigned>(num_multiprocessors), num_tasks);
  order_tasks<Tile>(params, queue, num_blocks, stream);
  const ColumnMaps maps = make_column_maps<Tile>(params);
  column_attention_kernel<Tile>
      <<<num_blocks, Tile::kThreads, kSharedBytes, stream>>>(maps, params, queue);
  check_launch("column_sparse_attention");
}

}  // namespace mochi::cuda::sm90
