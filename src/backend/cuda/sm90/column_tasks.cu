#include "backend/cuda/common/cuda_check.h"
#include "backend/cuda/sm90/column_tasks.cuh"

namespace mochi::cuda::sm90 {
namespace {

constexpr int kThreads = 1024;

struct ListCounts {
  const std::int32_t* g_offsets;  // [num_lists + 1]
  int num_lists;

  __device__ int operator()(int list) const { return g_offsets[list + 1] - g_offsets[list]; }
  __device__ bool is_long(int count) const {
    return static_cast<std::int64_t>(count) * num_lists > 2LL * g_offsets[num_lists];
  }
};

// Counts of long lists.
struct LongLists {
  int all, of_former_heads, of_this_head;
};

// Called by all threads of a block, each for a part of the lists.
__device__ LongLists count_long(const ListCounts& counts, int head, int num_groups) {
  __shared__ LongLists s_sum;
  if (threadIdx.x == 0) s_sum = {};
  __syncthreads();
  LongLists own{};
#pragma unroll 4
  for (int list = threadIdx.x; list < counts.num_lists; list += kThreads) {
    const int is_long = counts.is_long(counts(list)) ? 1 : 0;
    own.all += is_long;
    own.of_former_heads += list < head * num_groups ? is_long : 0;
    own.of_this_head += list / num_groups == head ? is_long : 0;
  }
  if (own.all > 0) {
    atomicAdd(&s_sum.all, own.all);
    atomicAdd(&s_sum.of_former_heads, own.of_former_heads);
    atomicAdd(&s_sum.of_this_head, own.of_this_head);
  }
  __syncthreads();
  return s_sum;
}

// Returns the position of a thread's group when the groups of its head are sorted by their counts.
// Called by all threads of a block, with or without a group.
__device__ int find_rank(const ListCounts& counts, int first_list, int num_groups, int group,
                         int count) {
  __shared__ int s_counts[kThreads];
  int rank = 0;
  for (int first = 0; first < num_groups; first += kThreads) {
    const int num_here = min(kThreads, num_groups - first);
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < num_here) {
      s_counts[threadIdx.x] = counts(first_list + first + static_cast<int>(threadIdx.x));
    }
    __syncthreads();
#pragma unroll 8
    for (int i = 0; i < num_here; ++i) {
      const int other = s_counts[i];
      rank += other > count || (other == count && first + i < group) ? 1 : 0;
    }
  }
  return rank;
}

template <typename Tile>
__device__ void write_tasks(const ColumnParams& p, int head, int group, int count,
                            ColumnTask* g_tasks) {
  const int group_begin = group * p.group_size;
  const int group_end = min(group_begin + p.group_size, p.num_queries);
  for (int i = 0; i < tasks_per_group<Tile>(p); ++i) {
    const int first = min(group_begin + i * Tile::kQueries, group_end);
    const int num_queries = min(Tile::kQueries, group_end - first);
    g_tasks[i] = {.head = head,
                  .first_query = first,
                  .num_queries = num_queries,
                  .first_column = p.g_offsets[head * p.num_groups + group],
                  .num_keys = num_queries > 0 ? max(count, 1) : 1};
  }
}

// Uses one block per head.
template <typename Tile>
__global__ void __launch_bounds__(kThreads, 1)
    order_tasks_kernel(const ColumnParams p, const TaskQueue queue, unsigned num_taken) {
  const auto head = static_cast<int>(blockIdx.x);
  const int first_list = head * p.num_groups;
  const ListCounts counts{p.g_offsets, p.num_heads * p.num_groups};
  const LongLists long_lists = count_long(counts, head, p.num_groups);
  if (threadIdx.x == 0 && head == 0) *queue.g_num_taken = num_taken;
  for (int first = 0; first < p.num_groups; first += kThreads) {
    const int group = first + static_cast<int>(threadIdx.x);
    const int count = group < p.num_groups ? counts(first_list + group) : 0;
    const int rank = find_rank(counts, first_list, p.num_groups, group, count);
    if (group >= p.num_groups) continue;
    const int place = counts.is_long(count)
                          ? long_lists.of_former_heads + rank
                          : long_lists.all + first_list - long_lists.of_former_heads + rank -
                                long_lists.of_this_head;
    write_tasks<Tile>(p, head, group, count,
                      queue.g_tasks + static_cast<std::int64_t>(place) * tasks_per_group<Tile>(p));
  }
}

}  // namespace

template <typename Tile>
void order_tasks(const ColumnParams& params, const TaskQueue& queue, unsigned num_taken,
                 cudaStream_t stream) {
  order_tasks_kernel<Tile>
      <<<static_cast<unsigned>(params.num_heads), kThreads, 0, stream>>>(params, queue, num_taken);
  check_launch("column_sparse_attention");
}

template void order_tasks<AttentionTile>(const ColumnParams& params, const TaskQueue& queue,
                                         unsigned num_taken, cudaStream_t stream);

}  // namespace mochi::cuda::sm90
