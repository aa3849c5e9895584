// Noise levels of the sampling steps.
#pragma once

#include <vector>

namespace mochi {

// The linear-quadratic schedule: num_steps + 1 values, the first 1, the last 0. The first
// linear_steps go down linearly, by threshold_noise in all; then a parabola follows that meets the
// line with equal slope and ends at 0. linear_steps 0 stands for half of the steps. Throws Error
// when the numbers do not make a schedule that falls.
std::vector<double> linear_quadratic_schedule(int num_steps, double threshold_noise,
                                              int linear_steps);

}  // namespace mochi
