// The best columns of a list, for any way to limit their number, from shared or global memory.
//
// Columns are not sorted. The key of the last one is determined digit by digit from the counts of
// columns with each digit, and from their share of the group's scores. Shares are in fixed point,
// so that sums do not depend on the order in which threads add.
#pragma once

#include <cstdint>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>

#include "backend/cuda/kernels/best_columns.cuh"

namespace mochi::cuda {

constexpr int kWordBits = 32;
constexpr int kDigitBits = 11;
constexpr int kBins = 1 << kDigitBits;
constexpr int kBinsPerThread = kBins / kListThreads;

// Properties of a set of columns: their number, and the sum of their scores in fixed point.
struct Amount {
  std::uint64_t held;
  std::uint32_t count;

  __device__ Amount operator+(const Amount& other) const {
    return {held + other.held, count + other.count};
  }
};

// The wanted best columns: the fewest that are at least min_count and hold `held`, but at most
// max_count.
struct Want {
  std::uint32_t min_count, max_count;
  std::uint64_t held;

  __device__ bool is_met(const Amount& amount) const {
    return (amount.count >= min_count && amount.held >= held) || amount.count >= max_count;
  }
};

// The best columns: all with a higher key, and the first num_equal with this key.
struct Cut {
  std::uint32_t key, num_equal;
  bool is_whole;  // num_equal covers all columns with this key
};

// The columns to rank: higher keys first, then lower columns.
struct Candidates {
  const float* scores;           // [num_keys] in shared or global memory; null: all are equal
  const std::uint32_t* without;  // [words] bits of columns that are not ranked; may be null
  int num_keys;
  double unit;  // scores times this factor are whole numbers

  __device__ bool has(int column) const {
    if (column >= num_keys) return false;
    return without == nullptr || (without[column / kWordBits] >> (column % kWordBits) & 1U) == 0;
  }
  // The bits of positive floats have the order of the floats, and unlike floats they are ordered
  // for every input.
  __device__ std::uint32_t key(int column) const {
    return (scores == nullptr ? 0U : __float_as_uint(scores[column])) ^ 0x80000000U;
  }
  __device__ std::uint64_t held(std::uint32_t key) const {
    const float score = __uint_as_float(key ^ 0x80000000U);
    return score > 0 ? __double2ull_rn(score * unit) : 0;
  }
};

using Scan = cub::BlockScan<Amount, kListThreads, cub::BLOCK_SCAN_WARP_SCANS>;
using MaxOrSum = cub::BlockReduce<std::uint64_t, kListThreads>;

struct RankedColumns {
  std::uint32_t s_counts[kBins];
  std::uint32_t s_held_low[kBins], s_held_high[kBins];
  union {
    Scan::TempStorage s_scan;
    MaxOrSum::TempStorage s_reduce;
    std::uint32_t s_equal[2][kListWarps];
  };
  std::uint64_t s_result;
  std::uint32_t s_digit, s_digit_count;
  Amount s_before;

  __device__ Amount amount(int digit) const {
    return {static_cast<std::uint64_t>(s_held_high[digit]) << 32 | s_held_low[digit],
            s_counts[digit]};
  }
  __device__ void clear(int digit) { s_counts[digit] = s_held_low[digit] = s_held_high[digit] = 0; }
  // Adds in two halves, because shared memory has no atomic addition of 64 bits in hardware.
  __device__ void add(int digit, std::uint64_t held) {
    atomicAdd(&s_counts[digit], 1U);
    if (held == 0) return;
    const auto low = static_cast<std::uint32_t>(held);
    const std::uint32_t former = atomicAdd(&s_held_low[digit], low);
    const std::uint32_t carry = former + low < low ? 1 : 0;
    atomicAdd(&s_held_high[digit], static_cast<std::uint32_t>(held >> 32) + carry);
  }
};

// Returns the result of the reduction in all threads.
template <typename Op>
__device__ std::uint64_t reduce(std::uint64_t value, Op op, RankedColumns& s) {
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

// Finds the highest digit at which `want` is reached. s_counts and s_held belong to the digits;
// `before` covers the columns with higher keys. Sets s_before to the amount before the digit.
__device__ inline void find_digit(const Want& want, const Amount& before, RankedColumns& s) {
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

__device__ inline Cut find_cut(const Candidates& candidates, const Want& want, RankedColumns& s) {
  Amount before{0, 0};
  if (want.is_met(before)) return {~0U, 0, true};
  std::uint32_t prefix = 0;
#pragma unroll 1
  for (int low = 32 - kDigitBits; low > -kDigitBits; low -= kDigitBits) {
    const int shift = max(low, 0);  // the last digit is one bit shorter
    const int width = kDigitBits + low - shift;
    __syncthreads();
    for (int i = threadIdx.x; i < kBins; i += kListThreads) s.clear(i);
    __syncthreads();
#pragma unroll 4
    for (int column = threadIdx.x; column < candidates.num_keys; column += kListThreads) {
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

// Adds the columns of the cut to plan [words], with one warp per 32 columns.
__device__ inline void add_columns(const Candidates& candidates, const Cut& cut,
                                   std::uint32_t* plan, RankedColumns& s) {
  const int lane = threadIdx.x % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int num_words = (candidates.num_keys + kWordBits - 1) / kWordBits;
  const auto mark = [&](int word, bool is_best) {
    const std::uint32_t best = __ballot_sync(~0U, is_best);
    if (lane == 0 && best != 0) plan[word] |= best;
  };
  __syncthreads();
  if (cut.is_whole) {
#pragma unroll 4
    for (int word = warp; word < num_words; word += kListWarps) {
      const int column = word * kWordBits + lane;
      const bool is_there = candidates.has(column);
      const std::uint32_t key = is_there ? candidates.key(column) : 0;
      mark(word, is_there && key >= cut.key && (key > cut.key || cut.num_equal > 0));
    }
    __syncthreads();
    return;
  }
  std::uint32_t num_seen = 0;  // columns with the cut's key in previous words
  for (int first = 0, now = 0; first < num_words; first += kListWarps, now = 1 - now) {
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

}  // namespace mochi::cuda
