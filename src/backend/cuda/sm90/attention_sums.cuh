// Column sums: the sums of the attention weights that each key gets from a query group, computed
// together with dense attention (attention_block.cuh). docs/kernels/column-sums.md has the design
// and its numbers.
//
// The given log-sum-exp is close to the new one. Weights are therefore computed relative to it
// instead of to a running maximum, and their sums over the queries are the result. If that leaves
// the range of fp32, the tile is marked and computed again with maxima.
#pragma once

#include "backend/cuda/common/attention_params.cuh"
#include "backend/cuda/device/mbarrier.cuh"
#include "backend/cuda/device/mma.cuh"
#include "backend/cuda/sm90/attention_block.cuh"

namespace mochi::cuda::sm90 {

struct SumsParams {
  const float* g_former;  // [heads, num_queries] log-sum-exp
  float* g_sums;          // [heads, num_groups, num_keys]
  int num_groups;
  int group_size;    // the queries of one, two or three warpgroups
  int query_stride;  // only queries of a group whose number is a multiple of this are counted

  __device__ const float* former_of(int head, int num_queries) const {
    return g_former + static_cast<std::int64_t>(head) * num_queries;
  }
  __device__ bool counts(int query) const { return query % group_size % query_stride == 0; }
};

// The queries of a group that are counted.
enum class Counted { kAll, kSome, kEveryFourth };

// Buffers through which the warps pass their sums over a key tile. All lanes arrive at the
// barriers, each for what it wrote or read itself: that takes no longer than one lane's arrival
// after a __syncwarp(), and racecheck can follow it.
template <typename Tile>
struct SumsMemory {
  float s_parts[Tile::kStages][Tile::kConsumerWarps][Tile::kKeys];
  float s_former[Tile::kQueries];
  device::Barrier full[Tile::kStages], empty[Tile::kStages];
  // If a group of two warpgroups spans both blocks, the second block writes its sums here in the
  // first block's memory. given_empty is in the second block; the first arrives there after reading
  // them.
  alignas(sizeof(float2)) float s_given[Tile::kStages][Tile::kKeys];
  device::Barrier given_full[Tile::kStages], given_empty[Tile::kStages];

  // Called by one thread before the block's barrier.
  __device__ void init() {
    for (int i = 0; i < Tile::kStages; ++i) {
      device::init_barrier(&full[i], Tile::kConsumers * Tile::kGroup);
      device::init_barrier(&empty[i], Tile::kSumFinishers * 32);
      device::init_barrier(&given_full[i], Tile::kSumFinishers * 32);
      device::init_barrier(&given_empty[i], Tile::kSumFinishers * 32);
    }
  }
};

// Returns the first of a thread's two rows; the second is 8 below.
__device__ inline int row_of_thread(int thread) { return thread / 32 * 16 + thread % 32 / 4; }

// Sums over the 16 rows of a warp, for one half of a key tile at a time. Lanes that share columns
// add theirs, which leaves two columns per lane.
template <typename Tile, Counted kCounted>
struct WarpSums {
  static constexpr int kColumns = Tile::kKeys / 8;  // columns of a thread in half a tile
  using Memory = SumsMemory<Tile>;

  Memory& s;
  float factor[2];          // factors of the two rows' weights
  float partial[kColumns];  // sums over the two rows

  template <int kFrom, int kTo, int kSize>
  __device__ void combine_rows(const float (&weights)[kSize]) {
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
    // Computed here, so that the weights need not stay in registers until write_sums().
    device::hold(partial);
  }
  // Makes the first step of adding what combine_rows() computed, which leaves eight columns. More
  // would not fit in registers next to the logits.
  __device__ void begin_sums(float (&sums)[kColumns / 2]) {
    halve(device::thread_idx_here() & 16, partial, sums);
  }
  // Makes the other steps and writes the sums to s_parts.
  template <int kHalf>
  __device__ void end_sums(const float (&sums)[kColumns / 2], RingPosition<Tile> at) {
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
    float* s_row = s.s_parts[at.slot()][thread / 32 - Tile::kWarps] + kHalf * Tile::kKeys / 2;
    reinterpret_cast<float2*>(s_row)[thread % 32] = {two[0], two[1]};
  }
  template <int kHalf>
  __device__ void write_sums(RingPosition<Tile> at) {
    float sums[kColumns / 2];
    begin_sums(sums);
    end_sums<kHalf>(sums, at);
  }
  __device__ void publish(RingPosition<Tile> at) { device::arrive(&s.full[at.slot()]); }

 private:
  // Adds the columns that lanes differing in one bit share: the lane with the bit set keeps the
  // upper half.
  template <int kLeft>
  static __device__ void halve(int bit_of_lane, const float (&x)[2 * kLeft], float (&sums)[kLeft]) {
#pragma unroll
    for (int i = 0; i < kLeft; ++i) {
      const float kept = bit_of_lane != 0 ? x[kLeft + i] : x[i];
      const float given = bit_of_lane != 0 ? x[i] : x[kLeft + i];
      sums[i] = kept + __shfl_xor_sync(0xffffffff, given, 2 * kLeft);
    }
  }
  // Variant of halve() for the case that only lanes with the bit cleared hold rows that are
  // counted.
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

// Sums with running maxima: a weight exp(logit − former) is the softmax's exp(logit − max) times
// exp(max − former), which changes only when the maximum does.
template <typename Tile>
struct MaximumSums : WarpSums<Tile, Counted::kSome> {
  using WarpSums<Tile, Counted::kSome>::s;
  using WarpSums<Tile, Counted::kSome>::factor;

  // Prepares a warpgroup's rows; `first` is the query of its first row.
  __device__ void begin(const SumsParams& params, int head, int first, int num_queries, float scale,
                        const RowState& rows) {
    const float* g_former = params.former_of(head, num_queries);
    const int thread = device::thread_idx_here();
    const int row = thread / 32 % Tile::kWarps * 16 + thread % 16;
    const int query = first + row;
    const bool counts = query < num_queries && params.counts(query);
    __syncwarp();  // all lanes have read those of the previous tile
    if (thread % 32 < 16) {
      s.s_former[(thread / Tile::kGroup - 1) * Tile::kGroupRows + row] =
          counts ? g_former[query] * kLog2E : INFINITY;
    }
    __syncwarp();
  }
  // Updates the factors after the maxima have changed. Values beyond fp32 are clamped.
  __device__ void update_factors(const RowState& rows, float scale_log2) {
    const float* s_row = s.s_former + row_of_thread(device::thread_idx_here() - Tile::kGroup);
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      factor[row] =
          device::exp2_fast(fminf(fmaf(rows.max[row], scale_log2, -s_row[8 * row]), 127.0F));
    }
  }
};

// Sums relative to the former log-sum-exp.
template <typename Tile, Counted kCounted>
struct FormerSums : WarpSums<Tile, kCounted> {
  // The range of a row's sum in which neither the sum nor its weights are near the limits of fp32.
  static constexpr float kLeast = 0x1p-60F, kMost = 0x1p60F;

  // Prepares a warpgroup's rows; `first` is the query of its first row. Rows after the last query
  // get weights of zero.
  __device__ void begin(const SumsParams& params, int head, int first, int num_queries, float scale,
                        RowState& rows) {
    const float* g_former = params.former_of(head, num_queries);
    const int first_row = first + row_of_thread(device::thread_idx_here() % Tile::kGroup);
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int query = first_row + 8 * row;
      const bool is_there = query < num_queries;
      rows.max[row] = is_there ? g_former[query] / scale : INFINITY;
      this->factor[row] = is_there && params.counts(query) ? 1.0F : 0.0F;
    }
  }
  // Does what AttentionGroup::attend does, without maxima.
  template <typename Group>
  __device__ void attend(Group& queries, int num_keys, float scale_log2, RowState& rows,
                         typename Group::Output& output) {
    constexpr int kLogits = Group::kLogits;
    constexpr int kHalf = kLogits / 2;
    constexpr int kSteps = Group::kOutputSteps;
    const float offset[2] = {-rows.max[0] * scale_log2, -rows.max[1] * scale_log2};
    typename Group::Logits logits;
    typename Group::Weights weights;
    float first[WarpSums<Tile, kCounted>::kColumns / 2];
    float second[WarpSums<Tile, kCounted>::kColumns / 2];
    RingPosition<Tile>& at = queries.at;
    const auto end_tile = [&] {
      const RingPosition<Tile> former{at.count - 1};
      this->template end_sums<1>(second, former);
      this->publish(former);
    };
    for (int left = num_keys; left > 0; left -= Tile::kKeys, ++at.count) {
      device::wait(&queries.s.k_full[at.slot()], at.parity());
      queries.start_logits(logits);
      if (left < num_keys) end_tile();
      device::wait_products<0>();
      device::hold(logits);
      queries.release(&queries.s.k_empty[at.slot()]);
      if (left < Tile::kKeys) mask_columns(logits, left);
      exponentiate<0, kHalf>(logits, scale_log2, offset, rows);
      this->template combine_rows<0, kHalf>(logits);
      pack_rows<0, kHalf>(logits, weights);
      device::wait(&queries.s.v_full[at.slot()], at.parity());
      queries.template start_output<0, kSteps / 2>(weights, output);
      this->begin_sums(first);
      exponentiate<kHalf, kLogits>(logits, scale_log2, offset, rows);
      this->template combine_rows<kHalf, kLogits>(logits);
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
  // Returns true if the result is usable for rows [first, num_queries).
  static __device__ bool is_good(const RowState& rows, int first, int num_queries) {
    const int first_row = first + row_of_thread(device::thread_idx_here() % Tile::kGroup);
    bool is_good = true;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float sum = sum_of_quad(rows.sum[row]);
      is_good &= first_row + 8 * row >= num_queries || (sum > kLeast && sum < kMost);
    }
    return is_good;
  }
};

// Sends sums from a thread of the second block to the thread of the first one that has the same
// columns.
template <typename Tile>
__device__ inline void send_sums(SumsMemory<Tile>& s, int column, float2 sums,
                                 RingPosition<Tile> at) {
  device::wait(&s.given_empty[at.slot()], at.parity() ^ 1);
  device::store_at(reinterpret_cast<float2*>(&s.s_given[at.slot()][column]), sums,
                   &s.given_full[at.slot()], 0);
}
template <typename Tile>
__device__ inline float2 receive_sums(SumsMemory<Tile>& s, int column, RingPosition<Tile> at) {
  device::arrive_expecting(&s.given_full[at.slot()], sizeof(float2));
  device::wait(&s.given_full[at.slot()], at.parity());
  const float* s_sums = &s.s_given[at.slot()][column];
  float sums[2] = {s_sums[0], s_sums[1]};
  device::hold(sums);  // the values are read before their buffer is released
  device::arrive_at(&s.given_empty[at.slot()], 1);
  return {sums[0], sums[1]};
}

// The work of one of the kSumFinishers warps, each for half of a key tile: computes the sums of the
// block's queries for all keys of a head. g_sums [num_lists, num_keys] begins at the block's first
// list. If lists have two warpgroups, the two blocks of three warpgroups hold three lists: the
// first two warpgroups, the last of the first block with the first of the second, and the last two.
template <typename Tile>
__device__ inline void finish_sums(SumsMemory<Tile>& s, int part, int group_size, float* g_sums,
                                   int num_lists, int num_keys, RingPosition<Tile>& at) {
  static_assert(Tile::kKeys / Tile::kSumFinishers == 2 * 32);
  const int lane = device::thread_idx_here() % 32;
  const int column = part * Tile::kKeys / Tile::kSumFinishers + 2 * lane;
  const auto rank = static_cast<int>(device::cluster_rank());
  const bool is_of_two = group_size == 2 * Tile::kGroupRows;
  for (int first = 0; first < num_keys; first += Tile::kKeys, ++at.count) {
    device::wait(&s.full[at.slot()], at.parity());
    const int num_columns = num_keys - first - column;  // this thread's columns, at most two
    float* g_list = g_sums + first + column;
    float2 total{0.0F, 0.0F};
    int lists_left = num_lists;
#pragma unroll
    for (int group = 0; group < Tile::kConsumers; ++group) {
      float2 row[Tile::kWarps];
#pragma unroll
      for (int i = 0; i < Tile::kWarps; ++i) {
        row[i] = *reinterpret_cast<const float2*>(
            &s.s_parts[at.slot()][group * Tile::kWarps + i][column]);
      }
#pragma unroll
      for (const float2& x : row) total = {total.x + x.x, total.y + x.y};
      if (group + 1 == Tile::kConsumers) device::arrive(&s.empty[at.slot()]);
      const bool continues = group_size == Tile::kQueries || (is_of_two && group == rank);
      if (group + 1 < Tile::kConsumers && continues) continue;
      if (is_of_two && rank == 1 && group == 0) {
        send_sums(s, column, total, at);
      } else {
        if (is_of_two && rank == 0 && group + 1 == Tile::kConsumers) {
          const float2 x = receive_sums(s, column, at);
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
