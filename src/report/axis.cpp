#include "report/axis.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

namespace mochi::report {
namespace {

// Beyond it, differences of two values could overflow.
constexpr double kLargestValue = 1e150;
constexpr double kSmallestLogValue = 1e-150;
constexpr std::array kMantissas{1.0, 2.0, 5.0};

// The least of 1, 2, 5, 10, ... times a power of ten that is not below `value`.
double round_up(double value) {
  const double power = std::pow(10.0, std::floor(std::log10(value)));
  for (const double mantissa : kMantissas) {
    if (mantissa * power >= value * (1 - 1e-9)) return mantissa * power;
  }
  return 10 * power;
}

double round_down(double value) {
  const double power = std::pow(10.0, std::floor(std::log10(value)));
  double best = power;
  for (const double mantissa : kMantissas) {
    if (mantissa * power <= value * (1 + 1e-9)) best = mantissa * power;
  }
  return best;
}

// Room around a single value, and something to show where there is none.
AxisRange widen(AxisRange range) {
  if (range.low > range.high) return {0, 1};
  const double size = std::max(std::abs(range.low), std::abs(range.high));
  if (range.high - range.low > 1e-9 * size) return range;
  const double room = size > 0 ? 0.05 * size : 0.5;
  return {range.low - room, range.high + room};
}

}  // namespace

bool is_drawable(double value, bool is_log) {
  return std::isfinite(value) && std::abs(value) < kLargestValue &&
         (!is_log || value > kSmallestLogValue);
}

void AxisRange::add(double value) {
  const bool is_first = low > high;
  low = is_first ? value : std::min(low, value);
  high = is_first ? value : std::max(high, value);
}

double Axis::place(double value) const {
  if (is_log) return std::log(value / low) / std::log(high / low);
  return (value - low) / (high - low);
}

Axis make_axis(AxisRange range, AxisEnds ends, int max_ticks, bool is_integral) {
  // Beyond this size, a place has no width any more.
  constexpr double kLargestPlace = 1e9;
  is_integral &= std::max(std::abs(range.low), std::abs(range.high)) < kLargestPlace;
  AxisRange shown = is_integral && range.low <= range.high ? range : widen(range);
  if (ends == AxisEnds::kTicks && shown.low > 0 && shown.low < shown.high / 2) shown.low = 0;
  double step = round_up((shown.high - shown.low) / std::max(max_ticks - 1, 1));
  if (is_integral) step = std::max(step, 1.0);
  if (ends == AxisEnds::kTicks) {
    shown.low = std::floor(shown.low / step + 1e-9) * step;
    shown.high = std::ceil(shown.high / step - 1e-9) * step;
  } else {
    // Half a place for whole numbers, so that they stand where a heat map has its cells.
    const double room = is_integral ? 0.5 : 0.02 * (shown.high - shown.low);
    shown = {shown.low - room, shown.high + room};
  }
  Axis axis{.low = shown.low, .high = shown.high, .is_log = false, .ticks = {}, .tick_step = step};
  const auto first = static_cast<std::int64_t>(std::ceil(shown.low / step - 1e-9));
  const auto last = static_cast<std::int64_t>(std::floor(shown.high / step + 1e-9));
  for (std::int64_t i = first; i <= last; ++i) axis.ticks.push_back(static_cast<double>(i) * step);
  return axis;
}

Axis make_log_axis(AxisRange range, int max_ticks) {
  const AxisRange shown = range.low > range.high ? AxisRange{0.1, 1} : range;
  Axis axis{
      .low = round_down(shown.low), .high = round_up(shown.high), .is_log = true, .ticks = {}};
  if (axis.high <= axis.low * (1 + 1e-9)) {
    axis.low = round_down(axis.low * 0.6);
    axis.high = round_up(axis.high * 1.6);
  }
  const int first = static_cast<int>(std::floor(std::log10(axis.low) + 1e-9));
  const int last = static_cast<int>(std::ceil(std::log10(axis.high) - 1e-9));
  const bool has_mantissas = (last - first) * std::ssize(kMantissas) <= max_ticks;
  const int stride = std::max(1, (last - first + max_ticks - 1) / std::max(max_ticks, 1));
  for (int power = first; power <= last; power += stride) {
    for (const double mantissa : kMantissas) {
      const double tick = mantissa * std::pow(10.0, power);
      const bool is_inside = tick >= axis.low * (1 - 1e-9) && tick <= axis.high * (1 + 1e-9);
      if (is_inside && (has_mantissas || mantissa == 1)) axis.ticks.push_back(tick);
    }
  }
  return axis;
}

std::string format_tick(const Axis& axis, double value) {
  const bool is_plain = !axis.is_log && axis.tick_step >= 1e-4 && std::abs(value) < 1e6;
  if (!is_plain) return fmt::format("{:.3g}", value);
  const int decimals =
      std::max(0, -static_cast<int>(std::floor(std::log10(axis.tick_step) + 1e-9)));
  return fmt::format("{:.{}f}", value == 0 ? 0 : value, decimals);
}

}  // namespace mochi::report
