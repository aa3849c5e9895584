// Timing, and comparison of results.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.h"

namespace mochi::bench {

using Task = std::function<void()>;

// Returns the median; for an even count, the mean of the two middle values. `values` must not be
// empty.
double median(std::vector<double> values);

// Medians in seconds: every task runs once per round, after a round that does not count.
std::map<std::string, double> take_turns(const std::vector<std::pair<std::string, Task>>& tasks,
                                         int num_repetitions);

struct Timing {
  double seconds = 0;  // per run: the median of the batches
  double fastest = 0, slowest = 0;
  int num_batches = 0;
  int batch_size = 0;  // runs between two waits for the device
};

// Seconds since any fixed moment; never goes back.
using Clock = std::function<double()>;
double steady_seconds();

// Runs the tasks in turn, in batches that take min_batch_seconds or longer, so that the cost of
// waiting for the device is small compared with them. The first round does not count.
Timing time_batches(Backend& backend, const std::vector<Task>& tasks, int num_batches,
                    double min_batch_seconds, const Clock& clock = steady_seconds);

// ‖got − want‖ / ‖want‖.
double relative_error(const TensorView& got, const TensorView& want);

}  // namespace mochi::bench
