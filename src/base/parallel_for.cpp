#include "base/parallel_for.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>

#include "base/error.h"

namespace mochi {
namespace {

// More ranges than threads, so that a slow thread does not hold up the rest.
constexpr std::int64_t kRangesPerThread = 16;

std::atomic<int> s_num_threads{0};

std::int64_t range_size(std::int64_t num_indices, std::int64_t grain) {
  const std::int64_t num_ranges = kRangesPerThread * num_threads();
  return std::max(grain, (num_indices + num_ranges - 1) / num_ranges);
}

}  // namespace

void set_num_threads(int num_threads) {
  if (num_threads < 0) fail("number of threads must be 0 (all) or more, not {}", num_threads);
  s_num_threads = num_threads;
  omp_set_num_threads(num_threads > 0 ? num_threads : omp_get_num_procs());
}

int num_threads() {
  const int wanted = s_num_threads;
  return wanted > 0 ? wanted : omp_get_num_procs();
}

SerialScope::SerialScope() : num_threads_before_(omp_get_max_threads()) { omp_set_num_threads(1); }
SerialScope::~SerialScope() { omp_set_num_threads(num_threads_before_); }

void detail::run_ranges(std::int64_t begin, std::int64_t end, std::int64_t grain, void* context,
                        RangeFn run) {
  if (begin >= end) return;
  const std::int64_t size = range_size(end - begin, std::max<std::int64_t>(grain, 1));
  const std::int64_t num_ranges = (end - begin + size - 1) / size;
  const int num_workers = static_cast<int>(std::min<std::int64_t>(num_ranges, num_threads()));
  if (num_workers == 1 || omp_in_parallel() != 0) {
    run(context, begin, end);
    return;
  }
  std::atomic<bool> has_failed{false};
  std::exception_ptr error;
#pragma omp parallel for schedule(dynamic) num_threads(num_workers)
  for (std::int64_t range_idx = 0; range_idx < num_ranges; ++range_idx) {
    if (has_failed) continue;
    const std::int64_t range_begin = begin + range_idx * size;
    try {
      run(context, range_begin, std::min(end, range_begin + size));
    } catch (...) {
      // Only the first writes; the join at the region's end orders it before the read below.
      if (!has_failed.exchange(true)) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace mochi
