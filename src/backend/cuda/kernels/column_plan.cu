// Choosing the columns of query groups, and their bit-packed plans. A block of threads has a list.
//
// The best columns are not sorted: the key of the last of them is found digit by digit from the
// counts of columns with each digit (and what they hold of the group's scores, in fixed point, so
// that sums do not depend on the order in which threads add to them).
#include <algorithm>
#include <cmath>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/dispatch.cuh"
#include "base/philox.h"

namespace mochi {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
static_assert(kWarps == 32);  // a lane for every warp's count
constexpr int kWordBits = 32;
constexpr int kDigitBits = 11;
constexpr int kBins = 1 << kDigitBits;
constexpr int kBinsPerThread = kBins / kThreads;

// Of some columns: how many, and the sum of their scores in fixed point.
struct Amount {
  std::uint64_t held;
  std::uint32_t count;

  __device__ Amount operator+(const Amount& other) const {
    return {held + other.held, count + other.count};
  }
};

// Of the best columns: the fewest that are min_count and hold `held`, or max_count.
struct Want {
  std::uint32_t min_count, max_count;
  std::uint64_t held;

  __device__ bool is_met(const Amount& amount) const {
    return (amount.count >= min_count && amount.held >= held) || amount.count >= max_count;
  }
};

// The best columns: all of a higher key than this, and of this key the first num_equal.
struct Cut {
  std::uint32_t key, num_equal;
  bool is_whole;  // num_equal are all of them
};

// The columns that are ranked: higher keys first, then lower columns.
struct Candidates {
  const float* scores;             // [num_keys] in shared or global memory, or null: all are equal
  const std::uint32_t* g_without;  // [words] bits of those that are not ranked, or null
  int num_keys;
  double unit;  // scores times this are whole numbers

  __device__ bool has(int column) const {
    if (column >= num_keys) return false;
    return g_without == nullptr ||
           (g_without[column / kWordBits] >> (column % kWordBits) & 1U) == 0;
  }
  // Bits of positive floats are in the floats' order, and unlike them whatever comes.
  __device__ std::uint32_t key(int column) const {
    return (scores == nullptr ? 0U : __float_as_uint(scores[column])) ^ 0x80000000U;
  }
  __device__ std::uint64_t held(std::uint32_t key) const {
    const float score = __uint_as_float(key ^ 0x80000000U);
    return score > 0 ? __double2ull_rn(score * unit) : 0;
  }
};

using Scan = cub::BlockScan<Amount, kThreads, cub::BLOCK_SCAN_WARP_SCANS>;
using MaxOrSum = cub::BlockReduce<std::uint64_t, kThreads>;

struct SharedState {
  std::uint32_t s_counts[kBins];
  std::uint32_t s_held_low[kBins], s_held_high[kBins];
  union {
    Scan::TempStorage s_scan;
    MaxOrSum::TempStorage s_reduce;
    std::uint32_t s_equal[2][kWarps];
  };
  std::uint64_t s_result;
  std::uint32_t s_digit, s_digit_count;
  Amount s_before;

  __device__ Amount amount(int digit) const {
    return {static_cast<std::uint64_t>(s_held_high[digit]) << 32 | s_held_low[digit],
            s_counts[digit]};
  }
  __device__ void clear(int digit) { s_counts[digit] = s_held_low[digit] = s_held_high[digit] = 0; }
  // In halves: shared memory adds no 64-bit numbers by itself.
  __device__ void add(int digit, std::uint64_t held) {
    atomicAdd(&s_counts[digit], 1U);
    if (held == 0) return;
    const auto low = static_cast<std::uint32_t>(held);
    const std::uint32_t former = atomicAdd(&s_held_low[digit], low);
    const std::uint32_t carry = former + low < low ? 1 : 0;
    atomicAdd(&s_held_high[digit], static_cast<std::uint32_t>(held >> 32) + carry);
  }
};

// The same in all threads.
template <typename Op>
__device__ std::uint64_t reduce(std::uint64_t value, Op op, SharedState& s) {
  __syncthreads();
  const std::uint64_t result = MaxOrSum(s.s_reduce).Reduce(value, op);
  if (threadIdx.x == 0) s.s_result = result;
  __syncthreads();
  return s.s_result;
}

struct Max {
  __device__ std::uint64_t operator()(std::uint64_t a, std::uint64_t b) const { return max(a, b); }
};
struct Sum {
  __device__ std::uint64_t operator()(std::uint64_t a, std::uint64_t b) const { return a + b; }
};

// Finds the highest digit at which `want` is met, with s_counts and s_held those of each digit and
// `before` that of the columns of higher keys; s_before becomes that of the columns before it.
__device__ void find_digit(const Want& want, const Amount& before, SharedState& s) {
  Amount own[kBinsPerThread];
  Amount all{0, 0};
  const int first = kBins - 1 - static_cast<int>(threadIdx.x) * kBinsPerThread;
  for (int i = 0; i < kBinsPerThread; ++i) {
    own[i] = s.amount(first - i);
    all = all + own[i];
  }
  Amount amount{0, 0};
  Scan(s.s_scan).ExclusiveScan(all, amount, Amount{0, 0},
                               [](const Amount& a, const Amount& b) { return a + b; });
  amount = before + amount;
  for (int i = 0; i < kBinsPerThread; ++i) {
    const Amount next = amount + own[i];
    if (!want.is_met(amount) && want.is_met(next)) {
      s.s_digit = first - i;
      s.s_digit_count = own[i].count;
      s.s_before = amount;
    }
    amount = next;
  }
}

__device__ Cut find_cut(const Candidates& candidates, const Want& want, SharedState& s) {
  Amount before{0, 0};
  if (want.is_met(before)) return {~0U, 0, true};
  std::uint32_t prefix = 0;
#pragma unroll 1
  for (int low = 32 - kDigitBits; low > -kDigitBits; low -= kDigitBits) {
    const int shift = max(low, 0);  // the last digit is one bit shorter
    const int width = kDigitBits + low - shift;
    __syncthreads();
    for (int i = threadIdx.x; i < kBins; i += kThreads) s.clear(i);
    __syncthreads();
#pragma unroll 4
    for (int column = threadIdx.x; column < candidates.num_keys; column += kThreads) {
      if (!candidates.has(column)) continue;
      const std::uint32_t key = candidates.key(column);
      if (static_cast<std::uint64_t>(key) >> (shift + width) != prefix) continue;
      const std::uint32_t digit = key >> shift & ((1U << width) - 1);
      s.add(digit, want.held > 0 ? candidates.held(key) : 0);
    }
    __syncthreads();
    find_digit(want, before, s);
    __syncthreads();
    prefix = prefix << width | s.s_digit;
    before = s.s_before;
  }
  const std::uint64_t each = candidates.held(prefix);
  const std::uint64_t missing = want.held > before.held ? want.held - before.held : 0;
  std::uint64_t num_equal = want.min_count > before.count ? want.min_count - before.count : 0;
  if (missing > 0) num_equal = each == 0 ? ~0ULL : max(num_equal, (missing + each - 1) / each);
  const std::uint64_t most = want.max_count - before.count;
  num_equal = min(num_equal, most);
  return {prefix, static_cast<std::uint32_t>(num_equal), num_equal >= s.s_digit_count};
}

// Adds the columns of the cut to g_plan [words], a warp after 32 columns.
__device__ void add_columns(const Candidates& candidates, const Cut& cut, std::uint32_t* g_plan,
                            SharedState& s) {
  const int lane = threadIdx.x % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int num_words = (candidates.num_keys + kWordBits - 1) / kWordBits;
  const auto mark = [&](int word, bool is_best) {
    const std::uint32_t best = __ballot_sync(~0U, is_best);
    if (lane == 0 && best != 0) g_plan[word] |= best;
  };
  __syncthreads();
  if (cut.is_whole) {
#pragma unroll 4
    for (int word = warp; word < num_words; word += kWarps) {
      const int column = word * kWordBits + lane;
      const bool is_there = candidates.has(column);
      const std::uint32_t key = is_there ? candidates.key(column) : 0;
      mark(word, is_there && key >= cut.key && (key > cut.key || cut.num_equal > 0));
    }
    __syncthreads();
    return;
  }
  std::uint32_t num_seen = 0;  // of the cut's key, in former words
  for (int first = 0, now = 0; first < num_words; first += kWarps, now = 1 - now) {
    const int word = first + warp;
    const int column = word * kWordBits + lane;
    const bool is_there = candidates.has(column);
    const std::uint32_t key = is_there ? candidates.key(column) : 0;
    const bool is_equal = is_there && key == cut.key;
    const std::uint32_t equal = __ballot_sync(~0U, is_equal);
    if (lane == 0) s.s_equal[now][warp] = __popc(equal);
    __syncthreads();
    const std::uint32_t count = s.s_equal[now][lane];
    const std::uint32_t num_before = num_seen + __reduce_add_sync(~0U, lane < warp ? count : 0) +
                                     __popc(equal & ((1U << lane) - 1));
    num_seen += __reduce_add_sync(~0U, count);
    mark(word, is_there && (key > cut.key || (is_equal && num_before < cut.num_equal)));
  }
  __syncthreads();
}

struct SelectionProblem {
  const float* g_scores;         // [heads, groups, num_keys], or null
  const std::uint32_t* g_fixed;  // [groups, words]
  std::uint32_t* g_plan;         // [heads, groups, words]
  std::int32_t* g_counts;        // [heads, groups]
  int num_groups, num_keys, min_kept, max_kept;
  double mass;
  std::uint64_t random_limit;  // columns whose 32 random bits are below it are kept
  std::uint64_t seed;
  std::int64_t multiple;
  bool fits_shared;  // the scores of one list
};

// The fixed and random columns of a word.
__device__ std::uint32_t start_word(const SelectionProblem& p, int head, int group, int word) {
  const int num_words = (p.num_keys + kWordBits - 1) / kWordBits;
  std::uint32_t bits = p.g_fixed[static_cast<std::int64_t>(group) * num_words + word];
  if (p.random_limit == 0) return bits;
#pragma unroll 1
  for (int i = 0; i < kWordBits; i += 4) {
    const int column = word * kWordBits + i;
    const PhiloxWords words =
        philox_4x32_10({static_cast<std::uint32_t>(column / 4), static_cast<std::uint32_t>(group),
                        static_cast<std::uint32_t>(head), 0},
                       p.seed);
    for (int j = 0; j < 4; ++j) {
      if (column + j < p.num_keys && words[j] < p.random_limit) bits |= 1U << (i + j);
    }
  }
  return bits;
}

// What is kept for its score. Infinite scores hold everything, undefined ones nothing.
__device__ Want find_want(const SelectionProblem& p, Candidates& candidates, SharedState& s) {
  Want want{static_cast<std::uint32_t>(p.min_kept), static_cast<std::uint32_t>(p.max_kept), 0};
  if (p.min_kept == p.max_kept) return want;
  std::uint64_t max_key = 0;
  for (int column = threadIdx.x; column < p.num_keys; column += kThreads) {
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
  for (int column = threadIdx.x; column < p.num_keys; column += kThreads) {
    total += candidates.held(candidates.key(column));
  }
  total = reduce(total, Sum(), s);
  const std::uint64_t part = __double2ull_ru(p.mass * static_cast<double>(total));
  want.held = part < total ? part : total;
  return want;
}

__global__ void __launch_bounds__(kThreads) select_kernel(const SelectionProblem p) {
  __shared__ SharedState s;
  extern __shared__ float s_scores[];  // [num_keys] if they fit
  const std::int64_t list = blockIdx.x;
  const auto head = static_cast<int>(list / p.num_groups);
  const auto group = static_cast<int>(list % p.num_groups);
  const int num_words = (p.num_keys + kWordBits - 1) / kWordBits;
  std::uint32_t* g_plan = p.g_plan + list * num_words;
  for (int word = threadIdx.x; word < num_words; word += kThreads) {
    g_plan[word] = start_word(p, head, group, word);
  }
  Candidates candidates{p.g_scores == nullptr ? nullptr : p.g_scores + list * p.num_keys, nullptr,
                        p.num_keys, 1.0};
  if (candidates.scores != nullptr) {
    if (p.fits_shared) {
#pragma unroll 8
      for (int i = threadIdx.x; i < p.num_keys; i += kThreads) s_scores[i] = candidates.scores[i];
      candidates.scores = s_scores;
      __syncthreads();
    }
    const Want want = find_want(p, candidates, s);
    add_columns(candidates, find_cut(candidates, want, s), g_plan, s);
  }
  __syncthreads();

  // Up to a multiple by the best columns of those left.
  std::uint64_t count = 0;
  for (int word = threadIdx.x; word < num_words; word += kThreads) count += __popc(g_plan[word]);
  count = reduce(count, Sum(), s);
  const auto multiple = static_cast<std::uint64_t>(p.multiple);
  const std::uint64_t padded = (count + (count == 0) + multiple - 1) / multiple * multiple;
  const std::uint64_t wanted = min(padded, static_cast<std::uint64_t>(p.num_keys));
  if (count < wanted) {
    candidates.g_without = g_plan;
    const auto num_added = static_cast<std::uint32_t>(wanted - count);
    add_columns(candidates, find_cut(candidates, {num_added, num_added, 0}, s), g_plan, s);
  }
  if (threadIdx.x == 0) p.g_counts[list] = static_cast<std::int32_t>(wanted);
}

constexpr int kExpandThreads = 256;

// Lanes write a word's columns together.
__global__ void __launch_bounds__(kExpandThreads)
    expand_kernel(const std::uint32_t* g_plan, int num_words, const std::int32_t* g_offsets,
                  std::int32_t* g_columns) {
  using CountScan = cub::BlockScan<int, kExpandThreads>;
  __shared__ CountScan::TempStorage s_scan;
  const std::int64_t list = blockIdx.x;
  const int lane = threadIdx.x % 32;
  std::int32_t* g_list = g_columns + g_offsets[list];
  int num_before = 0;
  for (int first = 0; first < num_words; first += kExpandThreads) {
    const int own_word = first + static_cast<int>(threadIdx.x);
    const std::uint32_t own_bits = own_word < num_words ? g_plan[list * num_words + own_word] : 0;
    int own_place = 0;
    int total = 0;
    CountScan(s_scan).ExclusiveSum(__popc(own_bits), own_place, total);
    __syncthreads();
    for (int i = 0; i < 32; ++i) {
      const std::uint32_t bits = __shfl_sync(~0U, own_bits, i);
      const int place = num_before + __shfl_sync(~0U, own_place, i);
      if ((bits >> lane & 1U) == 0) continue;
      g_list[place + __popc(bits & ((1U << lane) - 1))] = (own_word - lane + i) * kWordBits + lane;
    }
    num_before += total;
  }
}

}  // namespace

void CudaBackend::do_select_columns(const ColumnChoice& choice, const TensorView& plan,
                                    const TensorView& counts) {
  const std::int64_t num_lists = plan.dim(0) * plan.dim(1);
  if (num_lists == 0) return;
  const std::size_t num_bytes = static_cast<std::size_t>(choice.num_keys) * sizeof(float);
  const bool fits_shared =
      choice.scores && sizeof(SharedState) + num_bytes <= properties_.sharedMemPerBlockOptin;
  const std::size_t scores_bytes = fits_shared ? num_bytes : 0;
  const double limit = std::ceil(std::clamp(choice.random, 0.0, 1.0) * 4294967296.0);
  const SelectionProblem problem{.g_scores = cuda::data_of<const float>(choice.scores),
                                 .g_fixed = cuda::data_of<const std::uint32_t>(choice.fixed),
                                 .g_plan = cuda::data_of<std::uint32_t>(plan),
                                 .g_counts = cuda::data_of<std::int32_t>(counts),
                                 .num_groups = static_cast<int>(plan.dim(1)),
                                 .num_keys = static_cast<int>(choice.num_keys),
                                 .min_kept = static_cast<int>(choice.min_kept),
                                 .max_kept = static_cast<int>(choice.max_kept),
                                 .mass = choice.mass,
                                 .random_limit = static_cast<std::uint64_t>(limit),
                                 .seed = choice.seed,
                                 .multiple = choice.multiple,
                                 .fits_shared = scores_bytes > 0};
  cuda::check(cudaFuncSetAttribute(select_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(scores_bytes)),
              "select_columns");
  select_kernel<<<static_cast<unsigned>(num_lists), kThreads, scores_bytes, stream_>>>(problem);
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
