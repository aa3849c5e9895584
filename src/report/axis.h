// Which values an axis is marked at.
#pragma once

#include <string>
#include <vector>

namespace mochi::report {

struct Axis {
  double low = 0, high = 1;
  bool is_log = false;
  std::vector<double> ticks;  // rising, all within
  double tick_step = 0;       // between two of them; 0 when is_log

  // Where a value lies: 0 at low, 1 at high.
  double place(double value) const;
};

// Whether a value can have a place on an axis.
bool is_drawable(double value, bool is_log);

// The ends of what the axis shall show; low above high: nothing.
struct AxisRange {
  double low = 1, high = 0;
  void add(double value);
};

enum class AxisEnds : unsigned char {
  kData,   // just beyond the values
  kTicks,  // at ticks; and at 0 where the values come near to it
};

// At most about `max_ticks` ticks, of 1, 2 or 5 times a power of ten. Integral axes are marked at
// whole numbers alone.
Axis make_axis(AxisRange range, AxisEnds ends, int max_ticks, bool is_integral = false);
// Ticks and ends at 1, 2 and 5 times powers of ten, or at powers of ten where those are too many.
Axis make_log_axis(AxisRange range, int max_ticks);

// "0.25", with as many decimals as the axis's ticks need.
std::string format_tick(const Axis& axis, double value);

}  // namespace mochi::report
