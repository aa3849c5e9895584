#include "measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace mochi::bench {
namespace {

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace

std::map<std::string, double> take_turns(const std::vector<std::pair<std::string, Task>>& tasks,
                                         int num_repetitions) {
  std::map<std::string, std::vector<double>> seconds;
  for (int i = 0; i <= num_repetitions; ++i) {
    for (const auto& [name, task] : tasks) {
      const auto start = std::chrono::steady_clock::now();
      task();
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
      if (i > 0) seconds[name].push_back(taken.count());
    }
  }
  std::map<std::string, double> medians;
  for (const auto& [name, values] : seconds) medians[name] = median(values);
  return medians;
}

double relative_error(const TensorView& got, const TensorView& want) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < want.f32().size(); ++i) {
    difference += std::pow(double{got.f32()[i]} - want.f32()[i], 2);
    norm += std::pow(double{want.f32()[i]}, 2);
  }
  return std::sqrt(difference / norm);
}

}  // namespace mochi::bench
