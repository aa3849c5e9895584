// Errors of results relative to the wanted values.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

namespace mochi {

// Returns ‖got − want‖ / ‖want‖.
template <typename Wanted>
double relative_error_of(std::span<const float> got, std::span<const Wanted> want) {
  EXPECT_EQ(got.size(), want.size());
  double difference = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    const double delta = static_cast<double>(got[i]) - want[i];
    difference += delta * delta;
    norm += static_cast<double>(want[i]) * want[i];
  }
  return std::sqrt(difference / norm);
}

inline double relative_error(std::span<const float> got, std::span<const float> want) {
  return relative_error_of(got, want);
}
inline double relative_error(std::span<const float> got, const std::vector<double>& want) {
  return relative_error_of(got, std::span<const double>(want));
}

}  // namespace mochi
