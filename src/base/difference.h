// The distance of two rows of values.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace mochi {

struct Difference {
  double squares = 0, norm = 0, largest = 0;

  void add(double wanted, double found) {
    squares += (wanted - found) * (wanted - found);
    norm += wanted * wanted;
    largest = std::max(largest, std::abs(wanted - found));
  }
  // ‖wanted − found‖ / ‖wanted‖; infinite if ‖wanted‖ is 0.
  double relative() const { return squares == 0 ? 0 : std::sqrt(squares / norm); }
};

// Returns the difference of two ranges of floats, which must have equal lengths.
Difference difference_of(const auto& wanted, const auto& found) {
  Difference difference;
  for (std::size_t i = 0; i < wanted.size(); ++i) difference.add(wanted[i], found[i]);
  return difference;
}

}  // namespace mochi
