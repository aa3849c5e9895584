// The tasks that the blocks of the column-sparse kernel take in turn.
#pragma once

#include "backend/cuda/sm90/attention_block.cuh"
#include "backend/cuda/sm90/column_attention.h"

namespace mochi::cuda::sm90 {

// Up to 192 queries of one group and head, and the group's columns.
struct alignas(32) ColumnTask {
  int head, first_query, num_queries;
  int first_column, num_keys;  // a range of g_columns; no keys: all tasks have been handed out
  int unused[3];
};

// All tasks, in the order in which they are handed out, and the number handed out so far.
struct TaskQueue {
  ColumnTask* g_tasks;  // [num_tasks]
  unsigned* g_num_taken;
  unsigned num_tasks;
};

template <typename Tile>
__host__ __device__ inline int tasks_per_group(const ColumnParams& p) {
  return (p.group_size + Tile::kQueries - 1) / Tile::kQueries;
}

// Writes the queue. Heads follow one after another, so that the keys of one stay in L2; within a
// head the longer lists come first, so that the last tasks are short. Lists of more than twice the
// mean length come before everything else, because a block that began one last would finish late.
// The first num_taken tasks count as handed out.
template <typename Tile>
void order_tasks(const ColumnParams& params, const TaskQueue& queue, unsigned num_taken,
                 cudaStream_t stream);

}  // namespace mochi::cuda::sm90
