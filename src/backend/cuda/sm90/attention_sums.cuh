// How much of the attention of a query group each key gets: column sums, on the way of dense
// attention (attention_block.cuh). docs/kernels/column-sums.md has the design and its numbers.
//
// The log-sum-exp that is given is near what the new one will be. So weights are taken relative to
// it instead of to a running maximum, and their sums over queries are what is wanted. Where that
// leaves the range of fp32 the tile is marked and computed once more, with maxima.
#pragma once

#include "backend/cuda/device/mbarrier.cuh"
#include "backend/cuda/device/mma.cuh"
#include "backend/cuda/kernels/attention_problem.cuh"
#include "backend/cuda/sm90/attention_block.cuh"

namespace mochi::cuda::sm90 {

constexpr int kSumSlots = kStages;
constexpr int kGroupWarps = kGroup / 32;
constexpr int kConsumerWarps = kConsumers * kGroupWarps;
constexpr int kFinishers = 2;  // warps that add up what the others say

struct SumsParams {
  const float* g_former;  // [heads, num_queries] log-sum-exp
  float* g_sums;          // [heads, num_groups, num_keys]
  int num_groups;
  int group_size;    // of one, two or three warpgroups
  int query_stride;  // of a group's queries those count whose number is a multiple of it

  __device__ const float* former_of(int head, int num_queries) const {
    return g_former + static_cast<std::int64_t>(head) * num_queries;
  }
  __device__ bool counts(int query) const { return query % group_size % query_stride == 0; }
};

// Which queries of a group count.
enum class Counted { kAll, kSome, kEveryFourth };

// What the warps say of a key tile. All lanes arrive at its barriers, each for what it wrote or
// read itself: that takes no longer than one lane after a __syncwarp(), and racecheck can follow
// it.
struct SumsMemory {
  float s_parts[kSumSlots][kConsumerWarps][kKeys];
  float s_former[kQueries];
  device::Barrier full[kSumSlots], empty[kSumSlots];
  // Of a group of two warpgroups that is in both blocks the second block's sums come here, in the
  // first; given_empty is the second's, where the first says that it has read them.
  alignas(sizeof(float2)) float s_given[kSumSlots][kKeys];
  device::Barrier given_full[kSumSlots], given_empty[kSumSlots];

  // One thread, before the block's barrier.
  __device__ void init() {
    for (int i = 0; i < kSumSlots; ++i) {
      device::init_barrier(&full[i], kConsumers * kGroup);
      device::init_barrier(&empty[i], kFinishers * 32);
      device::init_barrier(&given_full[i], kFinishers * 32);
      device::init_barrier(&given_empty[i], kFinishers * 32);
    }
  }
};

// The two rows of a thread.
__device__ inline int row_of_thread(int thread) { return thread / 32 * 16 + thread % 32 / 4; }

// Sums over the 16 rows of a warp, half a key tile after the other: the lanes that share columns
// add theirs, and each is left with two columns.
template <Counted kCounted>
struct WarpSums {
  static constexpr int kColumns = kKeys / 8;  // of a thread in half a tile
  using Memory = SumsMemory;

  Memory& s;
  float factor[2];          // of the rows' weights
  float partial[kColumns];  // Σ of the two rows

  template <int kFrom, int kTo, int kSize>
  __device__ void take(const float (&weights)[kSize]) {
    static_assert(kTo - kFrom == 2 * kColumns);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const int first = kFrom + i / 2 * 4 + i % 2;
      if constexpr (kCounted == Counted::kSome) {
        partial[i] = fmaf(weights[first], factor[0], weights[first + 2] * factor[1]);
      } else {
        partial[i] = weights[first] + weights[first + 2];
      }
    }
    device::hold(partial);  // now: the weights must not stay until put()
  }
  // The first step of adding what take() found: eight columns are left. More would not find room in
  // registers beside the logits.
  __device__ void begin_sums(float (&sums)[kColumns / 2]) {
    halve(device::thread_idx_here() & 16, partial, sums);
  }
  // The others; then the sums go to s_parts.
  template <int kHalf>
  __device__ void end_sums(const float (&sums)[kColumns / 2], RingPosition at) {
    if constexpr (kHalf == 0) device::wait(&s.empty[at.slot()], at.parity() ^ 1);
    const int thread = device::thread_idx_here();
    float four[4];
    float two[2];
    if constexpr (kCounted == Counted::kEveryFourth) {
      spread(thread & 8, sums, four);
      spread(thread & 4, four, two);
    } else {
      halve(thread & 8, sums, four);
      halve(thread & 4, four, two);
    }
    float* s_row = s.s_parts[at.slot()][thread / 32 - kGroupWarps] + kHalf * kKeys / 2;
    reinterpret_cast<float2*>(s_row)[thread % 32] = {two[0], two[1]};
  }
  template <int kHalf>
  __device__ void put(RingPosition at) {
    float sums[kColumns / 2];
    begin_sums(sums);
    end_sums<kHalf>(sums, at);
  }
  __device__ void hand_over(RingPosition at) { device::arrive(&s.full[at.slot()]); }

 private:
  // Lanes that differ in one bit share their columns: the one that has it keeps the upper half.
  template <int kLeft>
  static __device__ void halve(int bit_of_lane, const float (&x)[2 * kLeft], float (&sums)[kLeft]) {
#pragma unroll
    for (int i = 0; i < kLeft; ++i) {
      const float kept = bit_of_lane != 0 ? x[kLeft + i] : x[i];
      const float given = bit_of_lane != 0 ? x[i] : x[kLeft + i];
      sums[i] = kept + __shfl_xor_sync(0xffffffff, given, 2 * kLeft);
    }
  }
  // The same where the lane without the bit has all there is to say.
  template <int kLeft>
  static __device__ void spread(int bit_of_lane, const float (&x)[2 * kLeft],
                                float (&sums)[kLeft]) {
#pragma unroll
    for (int i = 0; i < kLeft; ++i) {
      const float given = __shfl_xor_sync(0xffffffff, x[kLeft + i], 2 * kLeft);
      sums[i] = bit_of_lane != 0 ? given : x[i];
    }
  }
};

// With running maxima: a weight exp(logit − former) is the softmax's exp(logit − max) times
// exp(max − former), which changes only with the maximum.
struct MaximumSums : WarpSums<Counted::kSome> {
  // For a warpgroup's rows; `first` is the query of its first.
  __device__ void begin(const SumsParams& params, int head, int first, int num_queries, float scale,
                        const RowState& rows) {
    const float* g_former = params.former_of(head, num_queries);
    const int thread = device::thread_idx_here();
    const int row = thread / 32 % kGroupWarps * 16 + thread % 16;
    const int query = first + row;
    const bool counts = query < num_queries && params.counts(query);
    __syncwarp();  // all have read those of the former tile
    if (thread % 32 < 16) {
      s.s_former[(thread / kGroup - 1) * kGroupRows + row] =
          counts ? g_former[query] * kLog2E : INFINITY;
    }
    __syncwarp();
  }
  // After the maxima have moved. What is beyond fp32 is let stay within.
  __device__ void follow(const RowState& rows, float scale_log2) {
    const float* s_row = s.s_former + row_of_thread(device::thread_idx_here() - kGroup);
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      factor[row] =
          device::exp2_fast(fminf(fmaf(rows.max[row], scale_log2, -s_row[8 * row]), 127.0F));
    }
  }
};

// Relative to the former log-sum-exp.
template <Counted kCounted>
struct FormerSums : WarpSums<kCounted> {
  // The range of a row's sum in which neither it nor its weights are near the ends of fp32.
  static constexpr float kLeast = 0x1p-60F, kMost = 0x1p60F;

  // As above. Rows beyond the last get weights of zero.
  __device__ void begin(const SumsParams& params, int head, int first, int num_queries, float scale,
                        RowState& rows) {
    const float* g_former = params.former_of(head, num_queries);
    const int first_row = first + row_of_thread(device::thread_idx_here() % kGroup);
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int query = first_row + 8 * row;
      const bool is_there = query < num_queries;
      rows.max[row] = is_there ? g_former[query] / scale : INFINITY;
      this->factor[row] = is_there && params.counts(query) ? 1.0F : 0.0F;
    }
  }
  // AttentionGroup::attend without maxima.
  template <typename Group>
  __device__ void attend(Group& queries, int num_keys, float scale_log2, RowState& rows,
                         typename Group::Output& output) {
    constexpr int kLogits = Group::kLogits;
    constexpr int kHalf = kLogits / 2;
    constexpr int kSteps = Group::kOutputSteps;
    const float offset[2] = {-rows.max[0] * scale_log2, -rows.max[1] * scale_log2};
    typename Group::Logits logits;
    typename Group::Weights weights;
    float first[WarpSums<kCounted>::kColumns / 2];
    float second[WarpSums<kCounted>::kColumns / 2];
    RingPosition& at = queries.at;
    const auto end_tile = [&] {
      const RingPosition former{at.count - 1};
      this->template end_sums<1>(second, former);
      this->hand_over(former);
    };
    for (int left = num_keys; left > 0; left -= kKeys, ++at.count) {
      device::wait(&queries.s.k_full[at.slot()], at.parity());
      queries.start_logits(logits);
      if (left < num_keys) end_tile();
      device::wait_products<0>();
      device::hold(logits);
      queries.release(&queries.s.k_empty[at.slot()]);
      if (left < kKeys) mask_columns(logits, left);
      exponentiate<0, kHalf>(logits, scale_log2, offset, rows);
      this->template take<0, kHalf>(logits);
      pack_rows<0, kHalf>(logits, weights);
      device::wait(&queries.s.v_full[at.slot()], at.parity());
      queries.template start_output<0, kSteps / 2>(weights, output);
      this->begin_sums(first);
      exponentiate<kHalf, kLogits>(logits, scale_log2, offset, rows);
      this->template take<kHalf, kLogits>(logits);
      pack_rows<kHalf, kLogits>(logits, weights);
      queries.template start_output<kSteps / 2, kSteps>(weights, output);
      this->template end_sums<0>(first, at);
      this->begin_sums(second);
      device::wait_products<0>();
      device::hold(output);
      queries.release(&queries.s.v_empty[at.slot()]);
    }
    end_tile();
  }
  // Whether the result is good for rows [first, num_queries).
  static __device__ bool is_good(const RowState& rows, int first, int num_queries) {
    const int first_row = first + row_of_thread(device::thread_idx_here() % kGroup);
    bool is_good = true;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float sum = sum_of_quad(rows.sum[row]);
      is_good &= first_row + 8 * row >= num_queries || (sum > kLeast && sum < kMost);
    }
    return is_good;
  }
};

// From a thread of the second block to that of the first which has the same columns.
__device__ inline void give_sums(SumsMemory& s, int column, float2 sums, RingPosition at) {
  device::wait(&s.given_empty[at.slot()], at.parity() ^ 1);
  device::store_at(reinterpret_cast<float2*>(&s.s_given[at.slot()][column]), sums,
                   &s.given_full[at.slot()], 0);
}
__device__ inline float2 take_sums(SumsMemory& s, int column, RingPosition at) {
  device::arrive_expecting(&s.given_full[at.slot()], sizeof(float2));
  device::wait(&s.given_full[at.slot()], at.parity());
  const float* s_sums = &s.s_given[at.slot()][column];
  float sums[2] = {s_sums[0], s_sums[1]};
  device::hold(sums);  // they are here before their place is free
  device::arrive_at(&s.given_empty[at.slot()], 1);
  return {sums[0], sums[1]};
}

// One of kFinishers warps beside those that compute, each with half of a key tile: the sums of the
// block's queries, for all keys of a head. g_sums [num_lists, num_keys] is where the block's first
// list goes. Of two blocks, each of three warpgroups, lists of two warpgroups have the first two,
// the last of the first block with the first of the second, and the last two.
__device__ inline void finish_sums(SumsMemory& s, int part, int group_size, float* g_sums,
                                   int num_lists, int num_keys, RingPosition& at) {
  static_assert(kKeys / kFinishers == 2 * 32);
  const int lane = device::thread_idx_here() % 32;
  const int column = part * kKeys / kFinishers + 2 * lane;
  const auto rank = static_cast<int>(device::cluster_rank());
  const bool is_of_two = group_size == 2 * kGroupRows;
  for (int first = 0; first < num_keys; first += kKeys, ++at.count) {
    device::wait(&s.full[at.slot()], at.parity());
    const int num_columns = num_keys - first - column;  // of this thread, at most two
    float* g_list = g_sums + first + column;
    float2 total{0.0F, 0.0F};
    int lists_left = num_lists;
#pragma unroll
    for (int group = 0; group < kConsumers; ++group) {
      float2 row[kGroupWarps];
#pragma unroll
      for (int i = 0; i < kGroupWarps; ++i) {
        row[i] = *reinterpret_cast<const float2*>(
            &s.s_parts[at.slot()][group * kGroupWarps + i][column]);
      }
#pragma unroll
      for (const float2& x : row) total = {total.x + x.x, total.y + x.y};
      if (group + 1 == kConsumers) device::arrive(&s.empty[at.slot()]);
      const bool goes_on = group_size == kQueries || (is_of_two && group == rank);
      if (group + 1 < kConsumers && goes_on) continue;
      if (is_of_two && rank == 1 && group == 0) {
        give_sums(s, column, total, at);
      } else {
        if (is_of_two && rank == 0 && group + 1 == kConsumers) {
          const float2 x = take_sums(s, column, at);
          total = {total.x + x.x, total.y + x.y};
        }
        if (lists_left > 0 && num_columns > 0) g_list[0] = total.x;
        if (lists_left > 0 && num_columns > 1) g_list[1] = total.y;
      }
      total = {0.0F, 0.0F};
      g_list += num_keys;
      --lists_left;
    }
  }
}

}  // namespace mochi::cuda::sm90
