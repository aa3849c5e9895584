#include "backend/cuda/cuda_check.h"
#include "backend/cuda/sm90/column_tasks.cuh"

namespace mochi::cuda::sm90 {
namespace {

constexpr int kOrderThreads = 256;

// One block per head.
__global__ void __launch_bounds__(kOrderThreads, 1)
    order_tasks_kernel(const ColumnProblem p, const TaskQueue queue, unsigned num_taken) {
  __shared__ int s_num_long, s_num_long_before, s_num_long_here;
  const auto head = static_cast<int>(blockIdx.x);
  const int num_lists = p.num_heads * p.num_groups;
  const std::int64_t all_columns = p.g_offsets[num_lists];
  const auto count_of = [&](int list) { return p.g_offsets[list + 1] - p.g_offsets[list]; };
  const auto is_long = [&](int count) { return count * (num_lists * 1LL) > 2 * all_columns; };
  if (threadIdx.x == 0) s_num_long = s_num_long_before = s_num_long_here = 0;
  if (threadIdx.x == 0 && head == 0) *queue.g_num_taken = num_taken;
  __syncthreads();
  for (int list = threadIdx.x; list < num_lists; list += kOrderThreads) {
    if (!is_long(count_of(list))) continue;
    const int list_head = list / p.num_groups;
    atomicAdd(&s_num_long, 1);
    if (list_head < head) atomicAdd(&s_num_long_before, 1);
    if (list_head == head) atomicAdd(&s_num_long_here, 1);
  }
  __syncthreads();
  const int first_list = head * p.num_groups;
  for (int group = threadIdx.x; group < p.num_groups; group += kOrderThreads) {
    const int count = count_of(first_list + group);
    int rank = 0;  // in the head
    for (int other = 0; other < p.num_groups; ++other) {
      const int other_count = count_of(first_list + other);
      rank += other_count > count || (other_count == count && other < group) ? 1 : 0;
    }
    const int place = is_long(count)
                          ? s_num_long_before + rank
                          : s_num_long + first_list - s_num_long_before + rank - s_num_long_here;
    const int group_begin = group * p.group_size;
    const int group_end = min(group_begin + p.group_size, p.num_queries);
    const int num_tasks = tasks_per_group(p);
    for (int i = 0; i < num_tasks; ++i) {
      const int first = min(group_begin + i * kQueries, group_end);
      const int num_queries = min(kQueries, group_end - first);
      queue.g_tasks[static_cast<std::int64_t>(place) * num_tasks + i] = {
          .head = head,
          .first_query = first,
          .num_queries = num_queries,
          .first_column = p.g_offsets[first_list + group],
          .num_keys = num_queries > 0 ? max(count, 1) : 1};
    }
  }
}

}  // namespace

void order_tasks(const ColumnProblem& problem, const TaskQueue& queue, unsigned num_taken,
                 cudaStream_t stream) {
  order_tasks_kernel<<<static_cast<unsigned>(problem.num_heads), kOrderThreads, 0, stream>>>(
      problem, queue, num_taken);
  check_launch("column_sparse_attention");
}

}  // namespace mochi::cuda::sm90
