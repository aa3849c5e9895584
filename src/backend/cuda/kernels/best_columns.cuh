// The best of a list's columns if their number is known: the fast way for all but unusual scores.
// As many scores as fit are in shared memory. A block of 1024 threads handles one list.
//
// A sample gives a range of keys that contains the key of the last wanted column. Columns above the
// range are only counted; columns within it are counted by bins. That leaves a few hundred columns
// around the last one, which are sorted.
#pragma once

#include <climits>
#include <cstdint>

namespace mochi::cuda {

constexpr int kListThreads = 1024;
constexpr int kListWarps = kListThreads / 32;
static_assert(kListWarps == 32);  // one lane for each warp's number

// A column's key consists of the bits of its score, as a signed number. Keys of positive floats
// have the order of the floats, and unlike floats they are ordered for every input.
constexpr int kKeysPerWarp = 128;
constexpr int kNoKey = INT_MIN;
constexpr int kLeastKey = kNoKey + 1;

// The keys of a list. With kAllShared all of them are in shared memory, followed by kNoKey;
// otherwise the first ones are there and the others stay in global memory.
template <bool kAllShared>
struct ListKeys {
  const int* s_keys;  // [num_shared]
  const int* g_keys;  // [num_keys]
  int num_shared;     // a multiple of kKeysPerWarp
  int num_keys;

  __device__ int operator[](int column) const {
    return kAllShared || column < num_shared ? s_keys[column] : __ldg(g_keys + column);
  }
  // Calls fn(column, key) for the keys that are not in shared memory, by whole warps: 32 columns
  // from a multiple of 32 on, with kNoKey after the last. A lane has one column, not four as in
  // shared memory, because the list may begin at any address.
  template <typename Fn>
  __device__ void for_each_behind_shared(const Fn& fn) const {
    if constexpr (kAllShared) return;
    constexpr int kAtOnce = 8;  // loads in progress, because of their latency
    for (int first = num_shared + static_cast<int>(threadIdx.x); first / 32 * 32 < num_keys;
         first += kAtOnce * kListThreads) {
      int keys[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int column = first + i * kListThreads;
        keys[i] = column < num_keys ? __ldg(g_keys + column) : kNoKey;
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int column = first + i * kListThreads;
        if (column / 32 * 32 < num_keys) fn(column, keys[i]);
      }
    }
  }
};

struct BestColumns {
  static constexpr int kBinBits = 11;
  static constexpr int kBins = 1 << kBinBits;
  static constexpr int kMaxCandidates = 1024;
  static constexpr int kSlack = 384;  // candidates after the last one, for the padding

  // Number of columns in each bin; later the number in all bins up to it.
  std::uint32_t s_ends[kBins];
  std::uint64_t s_candidates[kMaxCandidates];
  std::int32_t s_order[kMaxCandidates];  // columns of the candidates, the best first
  std::uint32_t s_of_warp[2][kListWarps];
  int s_first, s_last;  // range of bins with candidates
  std::uint32_t s_before, s_size;
};

// Returns the sum over the block in all threads. Two calls in a row need different values of
// `turn`.
__device__ inline std::uint32_t sum_of_block(std::uint32_t value, BestColumns& s, int turn) {
  const std::uint32_t of_warp = __reduce_add_sync(~0U, value);
  if (threadIdx.x % 32 == 0) s.s_of_warp[turn][threadIdx.x / 32] = of_warp;
  __syncthreads();
  return __reduce_add_sync(~0U, s.s_of_warp[turn][threadIdx.x % 32]);
}

// Returns the sum over the threads before this one.
__device__ inline std::uint32_t sum_before(std::uint32_t value, BestColumns& s, int turn,
                                           std::uint32_t& total) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  std::uint32_t up_to = value;
#pragma unroll
  for (unsigned step = 1; step < 32; step *= 2) {
    const std::uint32_t other = __shfl_up_sync(~0U, up_to, step);
    if (lane >= step) up_to += other;
  }
  if (lane == 31) s.s_of_warp[turn][warp] = up_to;
  __syncthreads();
  const std::uint32_t of_warp = s.s_of_warp[turn][lane];
  total = __reduce_add_sync(~0U, of_warp);
  return __reduce_add_sync(~0U, lane < warp ? of_warp : 0) + up_to - value;
}

// Sorts the lanes' numbers, the highest first.
__device__ inline int sort_in_warp(int value) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int size = 2; size <= 32; size *= 2) {
#pragma unroll
    for (int stride = size / 2; stride > 0; stride /= 2) {
      const int other = __shfl_xor_sync(~0U, value, stride);
      const bool wants_more = ((lane & stride) == 0) == ((lane & size) == 0);
      value = wants_more ? max(value, other) : min(value, other);
    }
  }
  return value;
}

// A range of keys, divided into bins of equal width, the highest first.
struct KeyRange {
  int low, high;

  __device__ int shift() const {
    const unsigned width = static_cast<unsigned>(high) - static_cast<unsigned>(low);
    return max(0, 32 - __clz(static_cast<int>(width)) - BestColumns::kBinBits);
  }
  __device__ bool has(int key) const { return low <= key && key <= high; }
  __device__ unsigned bin_of(int key, int shift) const {
    return (static_cast<unsigned>(high) - static_cast<unsigned>(key)) >> shift;
  }
  __device__ KeyRange of_bins(int first, int last, int shift) const {
    const long long top = high - (static_cast<long long>(first) << shift);
    const long long end = high - (static_cast<long long>(last + 1) << shift) + 1;
    return {static_cast<int>(max(end, static_cast<long long>(low))), static_cast<int>(top)};
  }
};

// Each warp estimates the key of that rank from a sample of 32. The range covers all estimates but
// the outermost ones.
template <bool kAllShared>
__device__ KeyRange guess_range(const ListKeys<kAllShared>& keys, int rank, BestColumns& s) {
  constexpr int kOutermost = 4;
  const auto column =
      static_cast<int>(static_cast<long long>(threadIdx.x) * keys.num_keys / kListThreads);
  const int sorted = sort_in_warp(keys[column]);
  const int place = min(31, static_cast<int>(32LL * rank / keys.num_keys));
  const int guess = __shfl_sync(~0U, sorted, place);
  if (threadIdx.x % 32 == 0) s.s_order[threadIdx.x / 32] = guess;
  __syncthreads();
  const int guesses = sort_in_warp(s.s_order[threadIdx.x % 32]);
  const int low = max(__shfl_sync(~0U, guesses, 31 - kOutermost), kLeastKey);
  return {low, max(__shfl_sync(~0U, guesses, kOutermost), low)};
}

// Finds a range of whole bins around the key of rank `rank` ≥ 1 that holds at most kMaxCandidates
// columns. Afterwards s_ends holds the beginnings of the bins. Returns false if too many keys are
// equal or if they are not numbers.
template <bool kAllShared>
__device__ bool find_candidates(const ListKeys<kAllShared>& keys, std::uint32_t rank,
                                KeyRange& range, BestColumns& s) {
  const auto* s_quads = reinterpret_cast<const int4*>(keys.s_keys);
  const int num_quads = kAllShared ? (keys.num_keys + 3) / 4 : keys.num_shared / 4;
  const int bin = 2 * static_cast<int>(threadIdx.x);  // the first of this thread's two bins
  while (true) {
    const int shift = range.shift();
    __syncthreads();
    *reinterpret_cast<uint2*>(&s.s_ends[bin]) = {0, 0};
    if (threadIdx.x == 0) s.s_first = s.s_last = -1;
    __syncthreads();
    std::uint32_t num_above = 0;
    const auto count = [&](int key) {
      if (range.has(key)) atomicAdd(&s.s_ends[range.bin_of(key, shift)], 1U);
      num_above += key > range.high ? 1 : 0;
    };
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < num_quads; i += kListThreads) {
      const int4 quad = s_quads[i];
      for (const int key : {quad.x, quad.y, quad.z, quad.w}) count(key);
    }
    keys.for_each_behind_shared([&](int /*column*/, int key) { count(key); });
    num_above = sum_of_block(num_above, s, 0);
    const uint2 size = *reinterpret_cast<const uint2*>(&s.s_ends[bin]);
    std::uint32_t num_between = 0;
    const std::uint32_t start = num_above + sum_before(size.x + size.y, s, 1, num_between);
    const std::uint32_t starts[2] = {start, start + size.x};
    const std::uint32_t ends[2] = {start + size.x, start + size.x + size.y};
    for (int i = 0; i < 2; ++i) {
      s.s_ends[bin + i] = starts[i];
      if (starts[i] >= rank || rank > ends[i]) continue;
      s.s_first = bin + i;
      s.s_before = starts[i];
      s.s_size = ends[i] - starts[i];
    }
    __syncthreads();
    if (num_above >= rank) {
      range = {range.high + 1, INT_MAX};
    } else if (num_above + num_between < rank) {
      if (range.low == kLeastKey) return false;
      range = {kLeastKey, range.low - 1};
    } else if (s.s_size > BestColumns::kMaxCandidates) {
      if (shift == 0) return false;
      range = range.of_bins(s.s_first, s.s_first, shift);
    } else {
      const std::uint32_t wanted = min(rank - s.s_before + BestColumns::kSlack,
                                       static_cast<std::uint32_t>(BestColumns::kMaxCandidates));
      const std::uint32_t most = s.s_before + max(s.s_size, wanted);
      for (int i = 0; i < 2; ++i) {
        if (bin + i >= s.s_first && ends[i] <= most) atomicMax(&s.s_last, bin + i);
      }
      __syncthreads();
      return true;
    }
  }
}

// Returns a number that is higher for a better column; of equal keys the lower column is better.
__device__ inline std::uint64_t order_of(int key, int column) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(key) ^ 0x80000000U) << 32 |
         ~static_cast<std::uint32_t>(column);
}

// Adds the `rank` best columns to s_plan. Returns the number of candidates in s_order (of which
// `num_taken` are in the plan), or −1 if this is not possible; the plan is then unchanged.
template <bool kAllShared>
__device__ int add_best(const ListKeys<kAllShared>& keys, std::uint32_t rank, std::uint32_t* s_plan,
                        BestColumns& s, int& num_taken) {
  KeyRange range = guess_range(keys, static_cast<int>(rank), s);
  if (!find_candidates(keys, rank, range, s)) return -1;
  const int shift = range.shift();
  const int first = s.s_first;
  const std::uint32_t before = s.s_before;
  const KeyRange candidates = range.of_bins(first, s.s_last, shift);
  const int num_quads = keys.num_shared / 4;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto list_candidate = [&](int column, int key) {
    if (!candidates.has(key)) return;
    const std::uint32_t place = atomicAdd(&s.s_ends[range.bin_of(key, shift)], 1U) - before;
    s.s_candidates[place] = order_of(key, column);
  };
#pragma unroll 2
  for (int i = static_cast<int>(threadIdx.x); i < num_quads; i += kListThreads) {
    const int4 quad = reinterpret_cast<const int4*>(keys.s_keys)[i];
    const int four[4] = {quad.x, quad.y, quad.z, quad.w};
    std::uint32_t word = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (four[j] > candidates.high) word |= 1U << j;
      list_candidate(4 * i + j, four[j]);
    }
    word <<= 4 * (lane % 8);
#pragma unroll
    for (int bit = 1; bit < 8; bit *= 2) word |= __shfl_xor_sync(~0U, word, bit);
    if (lane % 8 == 0 && word != 0) s_plan[i / 8] |= word;
  }
  keys.for_each_behind_shared([&](int column, int key) {
    const std::uint32_t word = __ballot_sync(~0U, key > candidates.high);
    if (lane == 0 && word != 0) s_plan[column / 32] |= word;
    list_candidate(column, key);
  });
  __syncthreads();
  const auto num_candidates = static_cast<int>(s.s_ends[s.s_last] - before);
  num_taken = static_cast<int>(rank - before);
  if (static_cast<int>(threadIdx.x) < num_candidates) {
    const std::uint64_t own = s.s_candidates[threadIdx.x];
    const auto key = static_cast<int>(static_cast<std::uint32_t>(own >> 32) ^ 0x80000000U);
    const auto bin = static_cast<int>(range.bin_of(key, shift));
    const int begin = bin == first ? 0 : static_cast<int>(s.s_ends[bin - 1] - before);
    const int end = static_cast<int>(s.s_ends[bin] - before);
    int place = begin;
    for (int i = begin; i < end; ++i) place += s.s_candidates[i] > own ? 1 : 0;
    const auto column = static_cast<int>(~static_cast<std::uint32_t>(own));
    s.s_order[place] = column;
    if (place < num_taken) atomicOr(&s_plan[column / 32], 1U << (column % 32));
  }
  __syncthreads();
  return num_candidates;
}

// Adds up to `wanted` candidates that are not in the plan, the best first, and returns how many.
__device__ inline std::uint32_t add_next(int num_taken, int num_candidates, int num_keys,
                                         std::uint32_t wanted, std::uint32_t* s_plan,
                                         BestColumns& s) {
  const int i = num_taken + static_cast<int>(threadIdx.x);
  const int column = i < num_candidates ? s.s_order[i] : num_keys;
  const bool is_free = column < num_keys && (s_plan[column / 32] >> (column % 32) & 1U) == 0;
  std::uint32_t total = 0;
  const std::uint32_t before = sum_before(is_free ? 1 : 0, s, 0, total);
  if (is_free && before < wanted) atomicOr(&s_plan[column / 32], 1U << (column % 32));
  __syncthreads();
  return min(total, wanted);
}

}  // namespace mochi::cuda
