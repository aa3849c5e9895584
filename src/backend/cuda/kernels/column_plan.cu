// Choice of the columns of query groups, as bit-packed plans. One thread block handles one list.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device/cp_async.cuh"
#include "backend/cuda/kernels/best_columns.cuh"
#include "backend/cuda/kernels/dispatch.cuh"
#include "backend/cuda/kernels/ranked_columns.cuh"
#include "base/philox.h"

namespace mochi {
namespace {

constexpr int kWordBits = cuda::kWordBits;

struct SelectionProblem {
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
  int num_shared_keys;     // keys of a list in shared memory, see cuda::ListKeys
  bool is_plan_in_shared;  // the plan of a list is there too, after the keys
};

// Starts to copy a list's first scores to s_keys.
__device__ void start_keys(const SelectionProblem& p, const float* g_scores, int* s_keys) {
  const auto thread = static_cast<int>(threadIdx.x);
  const int num_there = min(p.num_keys, p.num_shared_keys);
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(g_scores) % 16 == 0;
  const int num_quads = is_aligned ? num_there / 4 : 0;
  for (int i = thread; i < num_quads; i += cuda::kListThreads) {
    cuda::device::copy_16_bytes(s_keys + 4 * i, g_scores + 4 * i);
  }
  for (int i = 4 * num_quads + thread; i < num_there; i += cuda::kListThreads) {
    cuda::device::copy_4_bytes(s_keys + i, g_scores + i);
  }
  cuda::device::commit_copies();
  for (int i = num_there + thread; i < p.num_shared_keys; i += cuda::kListThreads) {
    s_keys[i] = cuda::kNoKey;
  }
}

// Returns the random columns among 4·quad and the three after it.
__device__ std::uint32_t draw_quad(const SelectionProblem& p, int head, int group, int quad,
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
__device__ void start_plan(const SelectionProblem& p, int head, int group, std::uint32_t* plan) {
  const auto* g_fixed = reinterpret_cast<const std::uint8_t*>(
      p.g_fixed + static_cast<std::int64_t>(group) * p.num_words);
  auto* bytes = reinterpret_cast<std::uint8_t*>(plan);
  const int num_bytes = p.num_words * 4;
  const std::uint32_t step = p.g_step == nullptr ? 0 : *p.g_step;
  const auto fixed_at = [&](int i) -> std::uint32_t { return i < num_bytes ? g_fixed[i] : 0; };
  std::uint32_t next = fixed_at(static_cast<int>(threadIdx.x));
  for (int i = static_cast<int>(threadIdx.x); i < num_bytes; i += cuda::kListThreads) {
    std::uint32_t bits = next;
    next = fixed_at(i + cuda::kListThreads);  // loaded while this byte's columns are drawn
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
__device__ cuda::Want find_want(const SelectionProblem& p, cuda::Candidates& candidates,
                                cuda::RankedColumns& s) {
  cuda::Want want{static_cast<std::uint32_t>(p.min_kept), static_cast<std::uint32_t>(p.max_kept),
                  0};
  if (p.min_kept == p.max_kept) return want;
  std::uint64_t max_key = 0;
  for (int column = threadIdx.x; column < p.num_keys; column += cuda::kListThreads) {
    max_key = max(max_key, static_cast<std::uint64_t>(candidates.key(column)));
  }
  max_key = cuda::reduce(max_key, cuda::Max(), s);
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
  for (int column = threadIdx.x; column < p.num_keys; column += cuda::kListThreads) {
    total += candidates.held(candidates.key(column));
  }
  total = cuda::reduce(total, cuda::Sum(), s);
  const std::uint64_t part = __double2ull_ru(p.mass * static_cast<double>(total));
  want.held = part < total ? part : total;
  return want;
}

union SelectionMemory {
  cuda::RankedColumns ranked;
  cuda::BestColumns best;
};

// The state of a plan after its columns of highest score have been added.
struct Added {
  int num_taken = 0, num_candidates = 0;  // see add_best()
};

template <bool kAllShared>
__device__ Added add_by_score(const SelectionProblem& p, const float* g_scores, const int* s_keys,
                              cuda::Candidates& candidates, std::uint32_t* plan,
                              SelectionMemory& s) {
  Added added;
  const bool is_rank = p.min_kept == p.max_kept && p.max_kept > 0 && p.max_kept < p.num_keys;
  if (p.is_plan_in_shared && is_rank) {
    const cuda::ListKeys<kAllShared> keys{s_keys, reinterpret_cast<const int*>(g_scores),
                                          p.num_shared_keys, p.num_keys};
    added.num_candidates = cuda::add_best(keys, p.max_kept, plan, s.best, added.num_taken);
    if (added.num_candidates >= 0) return added;
    __syncthreads();
  }
  const cuda::Want want = find_want(p, candidates, s.ranked);
  cuda::add_columns(candidates, cuda::find_cut(candidates, want, s.ranked), plan, s.ranked);
  return {};
}

// kAllShared: all scores of a list are in shared memory.
template <bool kAllShared>
__global__ void __launch_bounds__(cuda::kListThreads) select_kernel(const SelectionProblem p) {
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
  cuda::device::wait_copies<0>();
  __syncthreads();
  cuda::Candidates candidates{kAllShared ? reinterpret_cast<const float*>(s_keys) : g_scores,
                              nullptr, p.num_keys, 1.0};
  Added added;
  if (g_scores != nullptr) {
    added = add_by_score<kAllShared>(p, g_scores, s_keys, candidates, plan, s);
  }
  __syncthreads();

  // Adds the best of the remaining columns up to a multiple.
  std::uint32_t count = 0;
  for (int i = static_cast<int>(threadIdx.x); i < p.num_words; i += cuda::kListThreads) {
    count += __popc(plan[i]);
  }
  count = cuda::sum_of_block(count, s.best, 1);
  const auto multiple = static_cast<std::uint64_t>(p.multiple);
  const std::uint64_t padded = (count + (count == 0) + multiple - 1) / multiple * multiple;
  const auto wanted =
      static_cast<std::uint32_t>(min(padded, static_cast<std::uint64_t>(p.num_keys)));
  if (count < wanted) {
    count += cuda::add_next(added.num_taken, added.num_candidates, p.num_keys, wanted - count, plan,
                            s.best);
  }
  if (count < wanted) {
    candidates.without = plan;
    const std::uint32_t num_missing = wanted - count;
    cuda::add_columns(candidates,
                      cuda::find_cut(candidates, {num_missing, num_missing, 0}, s.ranked), plan,
                      s.ranked);
  }
  if (threadIdx.x == 0) p.g_offsets[list + 1] = static_cast<std::int32_t>(wanted);
  if (!p.is_plan_in_shared) return;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < p.num_words; i += cuda::kListThreads) {
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

}  // namespace

void CudaBackend::do_select_columns(const ColumnChoice& choice, const TensorView& plan,
                                    const TensorView& offsets) {
  const std::int64_t num_lists = plan.dim(0) * plan.dim(1);
  if (num_lists == 0) return;
  // The plan of one list is in shared memory, with as many of its first keys as fit.
  const auto round_up = [](std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; };
  const auto room = static_cast<std::int64_t>(properties_.sharedMemPerBlockOptin) -
                    static_cast<std::int64_t>(sizeof(SelectionMemory));
  const std::int64_t all_keys = round_up(choice.num_keys, cuda::kKeysPerWarp);
  const std::int64_t plan_bytes = all_keys / 8;
  const bool is_plan_in_shared = plan_bytes <= room;
  constexpr std::int64_t kKeyBytes = sizeof(std::int32_t);
  constexpr std::int64_t kWarpBytes = cuda::kKeysPerWarp * kKeyBytes;
  const std::int64_t num_shared =
      choice.scores && is_plan_in_shared
          ? std::min(all_keys, (room - plan_bytes) / kWarpBytes * cuda::kKeysPerWarp)
          : 0;
  const std::int64_t num_bytes = num_shared * kKeyBytes + (is_plan_in_shared ? plan_bytes : 0);
  const double limit = std::ceil(std::clamp(choice.random, 0.0, 1.0) * 4294967296.0);
  const SelectionProblem problem{
      .g_scores = cuda::data_of<const float>(choice.scores),
      .g_fixed = cuda::data_of<const std::uint32_t>(choice.fixed),
      .g_plan = cuda::data_of<std::uint32_t>(plan),
      .g_offsets = cuda::data_of<std::int32_t>(offsets),
      .num_groups = static_cast<int>(plan.dim(1)),
      .num_keys = static_cast<int>(choice.num_keys),
      .num_words = static_cast<int>(plan.dim(2)),
      .min_kept = static_cast<int>(choice.min_kept),
      .max_kept = static_cast<int>(choice.max_kept),
      .mass = choice.mass,
      .is_random = limit > 0,
      .random_last = static_cast<std::uint32_t>(std::max(limit - 1, 0.0)),
      .seed = choice.seed,
      .g_step = cuda::data_of<const std::uint32_t>(choice.step),
      .multiple = choice.multiple,
      .num_shared_keys = static_cast<int>(num_shared),
      .is_plan_in_shared = is_plan_in_shared};
  const auto kernel = num_shared == all_keys ? select_kernel<true> : select_kernel<false>;
  cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(num_bytes)),
              "select_columns");
  kernel<<<static_cast<unsigned>(num_lists), cuda::kListThreads,
           static_cast<std::size_t>(num_bytes), stream_>>>(problem);
  sum_counts_kernel<<<1, kSumThreads, 0, stream_>>>(problem.g_offsets, static_cast<int>(num_lists));
  cuda::check_launch("select_columns");
}

void CudaBackend::do_expand_columns(const TensorView& plan, const ColumnLists& columns) {
  const std::int64_t num_lists = plan.dim(0) * plan.dim(1);
  if (num_lists == 0) return;
  expand_kernel<<<static_cast<unsigned>(num_lists), kExpandThreads, 0, stream_>>>(
      cuda::data_of<const std::uint32_t>(plan), static_cast<int>(plan.dim(2)),
      cuda::data_of<const std::int32_t>(columns.offsets),
      cuda::data_of<std::int32_t>(columns.columns));
  cuda::check_launch("expand_columns");
}

}  // namespace mochi
