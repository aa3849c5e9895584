// The ends of an axis and the values at its marks.
#pragma once

#include <string>
#include <vector>

namespace mochi::report {

struct Axis {
  double low = 0, high = 1;
  bool is_log = false;
  std::vector<double> ticks;  // rising, all within
  double tick_step = 0;       // between two of them; 0 when is_log

  // Returns the position of a value: 0 at low, 1 at high.
  double place(double value) const;
};

// Returns whether a value can have a position on an axis.
bool is_drawable(double value, bool is_log);

// The values that an axis has to show; none if low is above high.
struct AxisRange {
  double low = 1, high = 0;
  void add(double value);
};

enum class AxisEnds : unsigned char {
  kData,   // just beyond the values
  kTicks,  // at ticks, and at 0 if the values come near it
};

// Makes an axis with about `max_ticks` ticks at most, at 1, 2 or 5 times a power of ten. An
// integral axis has ticks at whole numbers only, and with AxisEnds::kData it ends half a unit
// beyond the values.
Axis make_axis(AxisRange range, AxisEnds ends, int max_ticks, bool is_integral = false);
// Puts ticks and ends at 1, 2 and 5 times powers of ten, or at powers of ten if those are too many.
Axis make_log_axis(AxisRange range, int max_ticks);

// Writes a value with as many decimals as the axis's ticks need: "0.25".
std::string format_tick(const Axis& axis, double value);

}  // namespace mochi::report
