#include "pipeline/sigma_schedule.h"

#include "base/error.h"

namespace mochi {

std::vector<double> linear_quadratic_schedule(int num_steps, double threshold_noise,
                                              int linear_steps) {
  if (num_steps < 1) refuse("num_steps", "wanted at least 1, found {}", num_steps);
  if (!(threshold_noise >= 0.0 && threshold_noise < 1.0)) {
    refuse("threshold_noise", "wanted 0 to below 1, found {}", threshold_noise);
  }
  if (linear_steps < 0 || (linear_steps >= num_steps && num_steps > 1)) {
    refuse("linear_steps",
           "wanted 0 (half of the steps) or more, less than num_steps ({}), found {}", num_steps,
           linear_steps);
  }
  if (num_steps == 1) return {1.0, 0.0};  // no room for two pieces

  const double steps = num_steps;
  const double linear = linear_steps > 0 ? linear_steps : num_steps / 2;
  const double quadratic = steps - linear;
  const double difference = linear - threshold_noise * steps;
  const double a = difference / (linear * quadratic * quadratic);
  const double b = threshold_noise / linear - 2 * difference / (quadratic * quadratic);
  const double c = a * linear * linear;

  std::vector<double> sigmas;
  for (int i = 0; i < num_steps; ++i) {
    const double noise = i < linear ? i * threshold_noise / linear : a * i * i + b * i + c;
    sigmas.push_back(1.0 - noise);
  }
  sigmas.push_back(0.0);
  for (int i = 0; i < num_steps; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (sigmas[at + 1] > sigmas[at]) {
      refuse("threshold_noise",
             "{} with {} linear of {} steps gives noise levels that rise at step {}",
             threshold_noise, linear, num_steps, i + 1);
    }
  }
  return sigmas;
}

}  // namespace mochi
