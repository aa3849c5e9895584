#include "bench/measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/difference.h"

namespace mochi::bench {
namespace {

constexpr int kMaxBatchSize = 4096;

double time_once(const Task& task, const Clock& clock = steady_seconds) {
  const double start = clock();
  task();
  return clock() - start;
}

}  // namespace

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::map<std::string, double> take_turns(const std::vector<std::pair<std::string, Task>>& tasks,
                                         int num_repetitions) {
  std::map<std::string, std::vector<double>> seconds;
  for (int i = 0; i <= num_repetitions; ++i) {
    for (const auto& [name, task] : tasks) {
      const double taken = time_once(task);
      if (i > 0) seconds[name].push_back(taken);
    }
  }
  std::map<std::string, double> medians;
  for (const auto& [name, values] : seconds) medians[name] = median(values);
  return medians;
}

Timing time_batches(Backend& backend, const std::vector<Task>& tasks, int num_batches,
                    double min_batch_seconds, const Clock& clock) {
  std::size_t next = 0;
  const auto run_batch = [&](int size) {
    const auto batch = [&] {
      for (int i = 0; i < size; ++i) tasks[next++ % tasks.size()]();
      backend.device().synchronize();
    };
    return time_once(batch, clock);
  };
  run_batch(static_cast<int>(tasks.size()));
  // These times include waiting, so the batches may be somewhat short.
  int size = 1;
  for (double taken = run_batch(1); taken < min_batch_seconds && size < kMaxBatchSize;) {
    const double factor = std::clamp(1.2 * min_batch_seconds / taken, 2.0, 16.0);
    size = std::min(static_cast<int>(std::ceil(size * factor)), kMaxBatchSize);
    taken = run_batch(size);
  }
  std::vector<double> seconds;
  seconds.reserve(static_cast<std::size_t>(num_batches));
  for (int i = 0; i < num_batches; ++i) seconds.push_back(run_batch(size) / size);
  const auto [fastest, slowest] = std::ranges::minmax(seconds);
  return {median(seconds), fastest, slowest, num_batches, size};
}

double relative_error(const TensorView& got, const TensorView& want) {
  return difference_of(want.f32(), got.f32()).relative();
}

}  // namespace mochi::bench
