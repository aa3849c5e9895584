// Timing tasks in turns, and comparing what they compute.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tensor/tensor.h"

namespace mochi::bench {

using Task = std::function<void()>;

// Medians in seconds: every task once a round, after a round that does not count.
std::map<std::string, double> take_turns(const std::vector<std::pair<std::string, Task>>& tasks,
                                         int num_repetitions);

// ‖got − want‖ / ‖want‖.
double relative_error(const TensorView& got, const TensorView& want);

}  // namespace mochi::bench
