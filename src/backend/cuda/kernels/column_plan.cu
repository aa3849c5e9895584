// Choice of the columns of query groups, as bit-packed plans. One thread block handles one list.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/common/shared_memory_limit.h"
#include "backend/cuda/device/cp_async.cuh"
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/best_columns.cuh"
#include "backend/cuda/kernels/ranked_columns.cuh"
#include "base/philox.h"

namespace mochi::cuda {
namespace {

struct SelectionParams {
  const float* g_scores;         // [heads, groups, num_keys], or null
  const std::uint32_t* g_fixed;  // [groups, words]
  std::uint32_t* g_plan;         // [heads, groups, words]
  // [heads·groups + 1]: first the count of each list, stored one further.
  std::int32_t* g_offsets;
  int num_groups, num_keys, num_words, min_kept, max_kept;
  double mass;
  bool is_random;
  std::uint32_t random_last;  // columns whose 32 random bits are at most this are kept
  std::uint64_t seed;
  const std::uint32_t* g_step;  // null: 0
  std::int64_t multiple;
  int num_shared_keys;     // keys of a list in shared memory, see ListKeys
  bool is_plan_in_shared;  // the plan of a list is there too, after the keys
};

// Starts to copy a list's first scores to s_keys.
__device__ void start_keys(const SelectionParams& p, const float* g_scores, int* s_keys) {
  const auto thread = static_cast<int>(threadIdx.x);
  const int num_there = min(p.num_keys, p.num_shared_keys);
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(g_scores) % 16 == 0;
  const int num_quads = is_aligned ? num_there / 4 : 0;
  for (int i = thread; i < num_quads; i += kListThreads) {
    device::copy_16_bytes(s_keys + 4 * i, g_scores + 4 * i);
  }
  for (int i = 4 * num_quads + thread; i < num_there; i += kListThreads) {
    device::copy_4_bytes(s_keys + i, g_scores + i);
  }
  device::commit_copies();
  for (int i = num_there + thread; i < p.num_shared_keys; i += kListThreads) {
    s_keys[i] = kNoKey;
  }
}

// Returns the random columns among 4·quad and the three after it.
__device__ std::uint32_t draw_quad(const SelectionParams& p, int head, int group, int quad,
                                   std::uint32_t step) {
  const PhiloxWords words =
      philox_4x32_10({static_cast<std::uint32_t>(quad), static_cast<std::uint32_t>(group),
                      static_cast<std::uint32_t>(head), step},
                     p.seed);
  std::uint32_t bits = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) bits |= words[i] <= p.random_last ? 1U << i : 0;
  return bits;
}

// Writes the fixed and random columns, one byte of the plan at a time.
__device__ void start_plan(const SelectionParams& p, int head, int group, std::uint32_t* plan) {
  const auto* g_fixed = reinterpret_cast<const std::uint8_t*>(
      p.g_fixed + static_cast<std::int64_t>(group) * p.num_words);
  auto* bytes = reinterpret_cast<std::uint8_t*>(plan);
  const int num_bytes = p.num_words * 4;
  const std::uint32_t step = p.g_step == nullptr ? 0 : *p.g_step;
  const auto fixed_at = [&](int i) -> std::uint32_t { return i < num_bytes ? g_fixed[i] : 0; };
  std::uint32_t next = fixed_at(static_cast<int>(threadIdx.x));
  for (int i = static_cast<int>(threadIdx.x); i < num_bytes; i += kListThreads) {
    std::uint32_t bits = next;
    next = fixed_at(i + kListThreads);  // loaded while this byte's columns are drawn
    const int num_left = p.num_keys - 8 * i;
    if (p.is_random && num_left > 0) {
      const std::uint32_t drawn =
          draw_quad(p, head, group, 2 * i, step) | draw_quad(p, head, group, 2 * i + 1, step) << 4;
      bits |= drawn & (num_left < 8 ? (1U << num_left) - 1 : 0xFFU);
    }
    bytes[i] = static_cast<std::uint8_t>(bits);
  }
}

// Returns the wanted columns by score. Infinite scores hold everything, NaNs hold nothing.
__device__ Want find_want(const SelectionParams& p, Candidates& candidates, RankedColumns& s) {
  Want want{static_cast<std::uint32_t>(p.min_kept), static_cast<std::uint32_t>(p.max_kept), 0};
  if (p.min_kept == p.max_kept) return want;
  std::uint64_t max_key = 0;
  for (int column = threadIdx.x; column < p.num_keys; column += kListThreads) {
    max_key = max(max_key, static_cast<std::uint64_t>(candidates.key(column)));
  }
  max_key = reduce(max_key, Max(), s);
  const float max_score = __uint_as_float(static_cast<std::uint32_t>(max_key) ^ 0x80000000U);
  if (!isfinite(max_score)) {
    if (isinf(max_score) && p.mass > 0) want.min_count = max(want.min_count, 1U);
    return want;
  }
  int exponent = 0;
  frexp(max_score, &exponent);
  const int count_bits = 32 - __clz(p.num_keys);
  candidates.unit = ldexp(1.0, 62 - count_bits - exponent);  // sums stay below 2^62
  std::uint64_t total = 0;
  for (int column = threadIdx.x; column < p.num_keys; column += kListThreads) {
    total += candidates.held(candidates.key(column));
  }
  total = reduce(total, Sum(), s);
  const std::uint64_t part = __double2ull_ru(p.mass * static_cast<double>(total));
  want.held = part < total ? part : total;
  return want;
}

union SelectionMemory {
  RankedColumns ranked;
  BestColumns best;
};

// The state of a plan after its columns of highest score have been added.
struct Added {
  int num_taken = 0, num_candidates = 0;  // see add_best()
};

template <bool kAllShared>
__device__ Added add_by_score(const SelectionParams& p, const float* g_scores, const int* s_keys,
                              Candidates& candidates, std::uint32_t* plan, SelectionMemory& s) {
  Added added;
  const bool is_rank = p.min_kept == p.max_kept && p.max_kept > 0 && p.max_kept < p.num_keys;
  if (p.is_plan_in_shared && is_rank) {
    const ListKeys<kAllShared> keys{s_keys, reinterpret_cast<const int*>(g_scores),
                                    p.num_shared_keys, p.num_keys};
    added.num_candidates = add_best(keys, p.max_kept, plan, s.best, added.num_taken);
    if (added.num_candidates >= 0) return added;
    __syncthreads();
  }
  const Want want = find_want(p, candidates, s.ranked);
  add_columns(candidates, find_cut(candidates, want, s.ranked), plan, s.ranked);
  return {};
}

// kAllShared: all scores of a list are in shared memory.
template <bool kAllShared>
__global__ void __launch_bounds__(kListThreads) select_kernel(const SelectionParams p) {
  __shared__ SelectionMemory s;
  extern __shared__ int4 s_memory[];
  const std::int64_t list = blockIdx.x;
  const auto head = static_cast<int>(list / p.num_groups);
  const auto group = static_cast<int>(list % p.num_groups);
  int* s_keys = reinterpret_cast<int*>(s_memory);
  std::uint32_t* g_plan = p.g_plan + list * p.num_words;
  std::uint32_t* plan =
      p.is_plan_in_shared ? reinterpret_cast<std::uint32_t*>(s_keys + p.num_shared_keys) : g_plan;
  const float* g_scores = p.g_scores == nullptr ? nullptr : p.g_scores + list * p.num_keys;
  if (p.num_shared_keys > 0) start_keys(p, g_scores, s_keys);
  start_plan(p, head, group, plan);
  device::wait_copies<0>();
  __syncthreads();
  Candidates candidates{kAllShared ? reinterpret_cast<const float*>(s_keys) : g_scores, nullptr,
                        p.num_keys, 1.0};
  Added added;
  if (g_scores != nullptr) {
    added = add_by_score<kAllShared>(p, g_scores, s_keys, candidates, plan, s);
  }
  __syncthreads();

  // Adds the best of the remaining columns up to a multiple.
  std::uint32_t count = 0;
  for (int i = static_cast<int>(threadIdx.x); i < p.num_words; i += kListThreads) {
    count += __popc(plan[i]);
  }
  count = sum_of_block(count, s.best, 1);
  const auto multiple = static_cast<std::uint64_t>(p.multiple);
  const std::uint64_t padded = (count + (count == 0) + multiple - 1) / multiple * multiple;
  const auto wanted =
      static_cast<std::uint32_t>(min(padded, static_cast<std::uint64_t>(p.num_keys)));
  if (count < wanted) {
    count +=
        add_next(added.num_taken, added.num_candidates, p.num_keys, wanted - count, plan, s.best);
  }
  if (count < wanted) {
    candidates.without = plan;
    const std::uint32_t num_missing = wanted - count;
    add_columns(candidates, find_cut(candidates, {num_missing, num_missing, 0}, s.ranked), plan,
                s.ranked);
  }
  if (threadIdx.x == 0) p.g_offsets[list + 1] = static_cast<std::int32_t>(wanted);
  if (!p.is_plan_in_shared) return;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < p.num_words; i += kListThreads) {
    g_plan[i] = plan[i];
  }
}

constexpr int kSumThreads = 1024;

// Turns counts into offsets, in one block.
__global__ void __launch_bounds__(kSumThreads)
    sum_counts_kernel(std::int32_t* g_offsets, int num_lists) {
  using CountScan = cub::BlockScan<std::int32_t, kSumThreads>;
  __shared__ CountScan::TempStorage s_scan;
  const auto thread = static_cast<int>(threadIdx.x);
  if (thread == 0) g_offsets[0] = 0;
  std::int32_t before = 0;
  for (int first = 0; first < num_lists; first += kSumThreads) {
    const int list = first + thread;
    std::int32_t up_to = list < num_lists ? g_offsets[list + 1] : 0;
    std::int32_t total = 0;
    CountScan(s_scan).InclusiveSum(up_to, up_to, total);
    if (list < num_lists) g_offsets[list + 1] = before + up_to;
    before += total;
    __syncthreads();
  }
}

constexpr int kExpandThreads = 256;

// A thread lists its word's columns in shared memory; then all threads copy them to the list.
__global__ void __launch_bounds__(kExpandThreads)
    expand_kernel(const std::uint32_t* g_plan, int num_words, const std::int32_t* g_offsets,
                  std::int32_t* g_columns) {
  using CountScan = cub::BlockScan<int, kExpandThreads>;
  __shared__ CountScan::TempStorage s_scan;
  __shared__ std::int32_t s_columns[kExpandThreads * kWordBits];
  const std::int64_t list = blockIdx.x;
  const auto thread = static_cast<int>(threadIdx.x);
  std::int32_t* g_list = g_columns + g_offsets[list];
  for (int first = 0; first < num_words; first += kExpandThreads) {
    const int word = first + thread;
    std::uint32_t bits = word < num_words ? g_plan[list * num_words + word] : 0;
    int place = 0;
    int total = 0;
    CountScan(s_scan).ExclusiveSum(__popc(bits), place, total);
    for (; bits != 0; bits &= bits - 1) {
      s_columns[place++] = word * kWordBits + __ffs(static_cast<int>(bits)) - 1;
    }
    __syncthreads();
    for (int i = thread; i < total; i += kExpandThreads) g_list[i] = s_columns[i];
    __syncthreads();
    g_list += total;
  }
}

constexpr std::int64_t kKeyBytes = sizeof(std::int32_t);

std::int64_t rounded_keys(std::int64_t num_keys) {
  return (num_keys + kKeysPerWarp - 1) / kKeysPerWarp * kKeysPerWarp;
}

// The plan of one list is in shared memory, with as many of its first keys as fit into the bytes of
// a block.
SelectionParams make_params(const ops::SelectColumns& op, std::size_t block_bytes) {
  const auto room =
      static_cast<std::int64_t>(block_bytes) - static_cast<std::int64_t>(sizeof(SelectionMemory));
  const std::int64_t all_keys = rounded_keys(op.num_keys);
  const std::int64_t plan_bytes = all_keys / 8;
  const bool is_plan_in_shared = plan_bytes <= room;
  constexpr std::int64_t kWarpBytes = kKeysPerWarp * kKeyBytes;
  const std::int64_t num_shared =
      op.scores && is_plan_in_shared
          ? std::min(all_keys, (room - plan_bytes) / kWarpBytes * kKeysPerWarp)
          : 0;
  const double limit = std::ceil(std::clamp(op.random, 0.0, 1.0) * 4294967296.0);
  return {.g_scores = data_of<const float>(op.scores),
          .g_fixed = data_of<const std::uint32_t>(op.fixed),
          .g_plan = data_of<std::uint32_t>(op.plan),
          .g_offsets = data_of<std::int32_t>(op.offsets),
          .num_groups = static_cast<int>(op.plan.dim(1)),
          .num_keys = static_cast<int>(op.num_keys),
          .num_words = static_cast<int>(op.plan.dim(2)),
          .min_kept = static_cast<int>(op.min_kept),
          .max_kept = static_cast<int>(op.max_kept),
          .mass = op.mass,
          .is_random = limit > 0,
          .random_last = static_cast<std::uint32_t>(std::max(limit - 1, 0.0)),
          .seed = op.seed,
          .g_step = data_of<const std::uint32_t>(op.step),
          .multiple = op.multiple,
          .num_shared_keys = static_cast<int>(num_shared),
          .is_plan_in_shared = is_plan_in_shared};
}

void launch_select_columns(const SelectionParams& params, int num_lists, cudaStream_t stream) {
  const std::int64_t all_keys = rounded_keys(params.num_keys);
  const std::int64_t num_bytes =
      params.num_shared_keys * kKeyBytes + (params.is_plan_in_shared ? all_keys / 8 : 0);
  const auto kernel =
      params.num_shared_keys == all_keys ? select_kernel<true> : select_kernel<false>;
  allow_shared_memory(kernel, static_cast<int>(num_bytes));
  kernel<<<static_cast<unsigned>(num_lists), kListThreads, static_cast<std::size_t>(num_bytes),
           stream>>>(params);
  sum_counts_kernel<<<1, kSumThreads, 0, stream>>>(params.g_offsets, num_lists);
  check_launch("select_columns");
}

}  // namespace

void run(Gpu& gpu, const ops::SelectColumns& op) {
  const std::int64_t num_lists = op.plan.dim(0) * op.plan.dim(1);
  if (num_lists == 0) return;
  launch_select_columns(make_params(op, gpu.properties().sharedMemPerBlockOptin),
                        static_cast<int>(num_lists), gpu.stream());
}
template void compute(Gpu&, const ops::SelectColumns&);

void run(Gpu& gpu, const ops::ExpandColumns& op) {
  const std::int64_t num_lists = op.plan.dim(0) * op.plan.dim(1);
  if (num_lists == 0) return;
  expand_kernel<<<static_cast<unsigned>(num_lists), kExpandThreads, 0, gpu.stream()>>>(
      data_of<const std::uint32_t>(op.plan), static_cast<int>(op.plan.dim(2)),
      data_of<const std::int32_t>(op.lists.offsets), data_of<std::int32_t>(op.lists.columns));
  check_launch("expand_columns");
}
template void compute(Gpu&, const ops::ExpandColumns&);

}  // namespace mochi::cuda
