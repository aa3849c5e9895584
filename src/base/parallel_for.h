// Data-parallel loops over index ranges.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

#include "base/stop.h"

namespace mochi {

// Sets the number of threads of all later parallel_for calls. 0 means OpenMP's default:
// OMP_NUM_THREADS if it is set, otherwise the processors that this process may use.
void set_num_threads(int num_threads);
int num_threads();

// While one lives, OpenMP regions that the calling thread opens (oneDNN's) run in that thread
// alone: OpenMP's own threads spin at every barrier, which stalls all of them where another program
// holds a processor.
class SerialScope {
 public:
  SerialScope();
  ~SerialScope();
  SerialScope(const SerialScope&) = delete;
  SerialScope& operator=(const SerialScope&) = delete;

 private:
  int num_threads_before_;
};

// While one lives, a parallel_for call of its thread ends with Cancelled soon after should_stop
// says so. Only that thread asks, between ranges and at most 20 times a second. Scopes may be
// nested: the innermost one counts, and one with an empty function never stops anything.
class StopScope {
 public:
  // `should_stop` must outlive the scope.
  explicit StopScope(const StopFn& should_stop);
  ~StopScope();
  StopScope(const StopScope&) = delete;
  StopScope& operator=(const StopScope&) = delete;

 private:
  const StopFn* outer_;
};

namespace detail {
using RangeFn = void (*)(void* context, std::int64_t begin, std::int64_t end);
void run_ranges(std::int64_t begin, std::int64_t end, std::int64_t grain, void* context,
                RangeFn run);
}  // namespace detail

// Calls fn(range_begin, range_end) for disjoint ranges that together cover [begin, end), each of at
// least `grain` indices (the last may be shorter). fn's result must not depend on how the range is
// split. The first exception, also a StopScope's Cancelled, is rethrown here after all threads have
// come back; ranges not yet begun are then dropped. Nested calls run in the calling thread.
template <typename Fn>
void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain, Fn&& fn) {
  using Callable = std::remove_reference_t<Fn>;
  const auto run = [](void* context, std::int64_t range_begin, std::int64_t range_end) {
    (*static_cast<Callable*>(context))(range_begin, range_end);
  };
  void* context = const_cast<void*>(static_cast<const void*>(std::addressof(fn)));
  detail::run_ranges(begin, end, grain, context, run);
}

}  // namespace mochi
