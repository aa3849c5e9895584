#include "base/parallel_for.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <utility>

#include "base/error.h"
#include "base/thread_pool.h"

namespace mochi {
namespace {

// More ranges than threads, so that a slow thread does not hold up the rest.
constexpr std::int64_t kRangesPerThread = 16;

std::atomic<int> s_num_threads{0};

// OpenMP's own default: the processors that this process may use, or OMP_NUM_THREADS.
int default_num_threads() {
  static const int num_threads = omp_get_max_threads();
  return num_threads;
}

std::int64_t range_size(std::int64_t num_indices, std::int64_t grain) {
  const std::int64_t num_ranges = kRangesPerThread * num_threads();
  return std::max(grain, (num_indices + num_ranges - 1) / num_ranges);
}

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kStopInterval{50};

thread_local const StopFn* s_should_stop = nullptr;  // the innermost StopScope's
thread_local Clock::time_point s_next_look;

// Workers have no StopFn: they end with the ranges that they have begun.
void throw_if_stopped() {
  if (s_should_stop == nullptr) return;
  const Clock::time_point now = Clock::now();
  if (now < s_next_look) return;
  s_next_look = now + kStopInterval;
  if ((*s_should_stop)()) throw Cancelled();
}

// One call of parallel_for: its ranges are the tasks of the pool.
struct Loop {
  std::int64_t begin, end, range_size;
  void* context;
  detail::RangeFn run;
  std::atomic<bool> has_failed{false};
  std::exception_ptr error{};

  static void run_range(void* loop, std::uint32_t range_idx) noexcept {
    static_cast<Loop*>(loop)->run_range(range_idx);
  }

  void run_range(std::uint32_t range_idx) noexcept {
    if (has_failed) return;
    const std::int64_t range_begin = begin + range_idx * range_size;
    try {
      throw_if_stopped();
      run(context, range_begin, std::min(end, range_begin + range_size));
    } catch (...) {
      // Only the first writes; the end of the job orders it before the caller's read.
      if (!has_failed.exchange(true)) error = std::current_exception();
    }
  }
};

}  // namespace

void set_num_threads(int num_threads) {
  if (num_threads < 0) fail("number of threads must be 0 (all) or more, not {}", num_threads);
  s_num_threads = num_threads;
}

int num_threads() {
  const int wanted = s_num_threads;
  return wanted > 0 ? wanted : default_num_threads();
}

SerialScope::SerialScope() : num_threads_before_((default_num_threads(), omp_get_max_threads())) {
  omp_set_num_threads(1);
}
SerialScope::~SerialScope() { omp_set_num_threads(num_threads_before_); }

StopScope::StopScope(const StopFn& should_stop)
    : outer_(std::exchange(s_should_stop, should_stop ? &should_stop : nullptr)) {}
StopScope::~StopScope() { s_should_stop = outer_; }

void detail::run_ranges(std::int64_t begin, std::int64_t end, std::int64_t grain, void* context,
                        RangeFn run) {
  if (begin >= end) return;
  const std::int64_t size = range_size(end - begin, std::max<std::int64_t>(grain, 1));
  const std::int64_t num_ranges = (end - begin + size - 1) / size;
  if (ThreadPool::is_inside_task()) return run(context, begin, end);
  if (num_ranges == 1 || num_threads() == 1) {
    const std::int64_t step = s_should_stop == nullptr ? end - begin : size;
    for (std::int64_t at = begin; at < end; at += step) {
      throw_if_stopped();
      run(context, at, std::min(end, at + step));
    }
    return;
  }
  throw_if_stopped();  // workers may run all the ranges of a short loop
  Loop loop{begin, end, size, context, run};
  ThreadPool::instance().run(num_threads(), static_cast<std::uint32_t>(num_ranges), &loop,
                             Loop::run_range);
  if (loop.error) std::rethrow_exception(loop.error);
}

}  // namespace mochi
