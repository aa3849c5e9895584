#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "report/axis.h"
#include "report/svg_canvas.h"
#include "report/svg_plot.h"

namespace mochi::report {
namespace {

constexpr double kMaxCellHeight = 30, kMinCellHeight = 8, kHeightAimed = 300;
// The colour bar stands above the right end of the box.
constexpr double kBarWidth = 240, kBarHeight = 12, kBarTop = 4;
constexpr double kBoxTop = 62;
constexpr int kNumBarCells = 48;
constexpr int kMaxBarTicks = 6;

struct Color {
  double red, green, blue;
};

// From dark to light through blue and green, so that the order is visible without colours.
constexpr std::array<Color, 6> kScale{
    {{68, 1, 84}, {65, 68, 135}, {42, 120, 142}, {34, 168, 132}, {122, 209, 81}, {253, 231, 37}}};

// `place` is between 0 and 1.
std::string color_at(double place) {
  const double at = std::clamp(place, 0.0, 1.0) * static_cast<double>(kScale.size() - 1);
  const auto below = std::min(static_cast<std::size_t>(at), kScale.size() - 2);
  const double part = at - static_cast<double>(below);
  const Color& from = kScale[below];
  const Color& to = kScale[below + 1];
  const auto mix = [part](double a, double b) {
    return static_cast<int>(std::lround(a + part * (b - a)));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(from.red, to.red), mix(from.green, to.green),
                     mix(from.blue, to.blue));
}

double longest_width(const std::vector<std::string>& names) {
  double width = 0;
  for (const std::string& name : names) width = std::max(width, text_width(name));
  return width;
}

// Returns the distance of the names that fit next to each other: every name, every second, ...
std::size_t name_stride(double name_size, double cell_size, std::size_t num_names) {
  std::size_t stride = 1;
  for (const std::size_t rounder : {1U, 2U, 5U, 10U, 20U, 50U, 100U, 200U, 500U, 1000U}) {
    stride = rounder;
    if (static_cast<double>(stride) * cell_size >= name_size || stride >= num_names) break;
  }
  return stride;
}

class Drawing {
 public:
  explicit Drawing(const HeatMap& map)
      : map_(map),
        cell_height_(std::clamp(kHeightAimed / static_cast<double>(map.y_names.size()),
                                kMinCellHeight, kMaxCellHeight)),
        box_{kLeftMargin, kBoxTop, kDrawingWidth - kLeftMargin - kRightMargin,
             cell_height_ * static_cast<double>(map.y_names.size())},
        cell_width_(box_.width / std::max(1.0, static_cast<double>(map.x_names.size()))),
        scale_(make_scale(map)) {}

  Figure draw() {
    for (std::size_t y = 0; y < map_.y_names.size(); ++y) {
      for (std::size_t x = 0; x < map_.x_names.size(); ++x) add_cell(x, y);
    }
    add_names();
    add_surroundings(canvas_, box_, map_.x_label, map_.y_label);
    add_bar();
    return {map_.title, {}, canvas_.elements(), box_.bottom() + kBottom};
  }

 private:
  static Axis make_scale(const HeatMap& map) {
    const bool is_range =
        is_drawable(map.low, false) && is_drawable(map.high, false) && map.low < map.high;
    const AxisRange range = is_range ? AxisRange{map.low, map.high} : AxisRange{0, 1};
    Axis axis = make_axis(range, AxisEnds::kData, kMaxBarTicks);
    // The bar ends where the colours do, without the room that make_axis() adds.
    axis.low = range.low;
    axis.high = range.high;
    std::erase_if(axis.ticks, [&](double tick) {
      const double place = axis.place(tick);
      return place < -1e-9 || place > 1 + 1e-9;
    });
    return axis;
  }

  void add_cell(std::size_t x, std::size_t y) {
    const double value = map_.values[y][x];
    if (!is_drawable(value, false)) return;
    const Box cell{box_.left + static_cast<double>(x) * cell_width_,
                   box_.top + static_cast<double>(y) * cell_height_, cell_width_, cell_height_};
    canvas_.add_cell(cell, color_at(scale_.place(value)),
                     fmt::format("{} {}, {} {}: {:.4g}", map_.y_label, map_.y_names[y],
                                 map_.x_label, map_.x_names[x], value));
  }

  void add_names() {
    const std::size_t x_stride =
        name_stride(longest_width(map_.x_names) + 10, cell_width_, map_.x_names.size());
    for (std::size_t x = 0; x < map_.x_names.size(); x += x_stride) {
      add_x_mark(canvas_, box_, box_.left + (static_cast<double>(x) + 0.5) * cell_width_,
                 map_.x_names[x]);
    }
    const std::size_t y_stride = name_stride(kLargestFontSize, cell_height_, map_.y_names.size());
    for (std::size_t y = 0; y < map_.y_names.size(); y += y_stride) {
      add_y_mark(canvas_, box_, box_.top + (static_cast<double>(y) + 0.5) * cell_height_,
                 map_.y_names[y]);
    }
  }

  void add_bar() {
    const Box bar{box_.right() - kBarWidth, kBarTop, kBarWidth, kBarHeight};
    const double width = bar.width / kNumBarCells;
    for (int i = 0; i < kNumBarCells; ++i) {
      // Cells overlap slightly, so that no gaps show between them.
      canvas_.add_cell({bar.left + i * width, bar.top, width + 0.3, bar.height},
                       color_at((i + 0.5) / kNumBarCells), "");
    }
    canvas_.add_frame(bar);
    for (const double tick : scale_.ticks) {
      canvas_.add_text(bar.left + scale_.place(tick) * bar.width, bar.bottom() + 18,
                       Anchor::kMiddle, format_tick(scale_, tick));
    }
  }

  const HeatMap& map_;
  double cell_height_;
  Box box_;
  double cell_width_;
  Axis scale_;
  SvgCanvas canvas_;
};

}  // namespace

Figure draw_heat_map(const HeatMap& map) {
  if (map.values.size() != map.y_names.size()) {
    fail("'{}': wanted {} rows of values, found {}", map.title, map.y_names.size(),
         map.values.size());
  }
  for (const std::vector<double>& row : map.values) {
    if (row.size() == map.x_names.size()) continue;
    fail("'{}': wanted {} values in a row, found {}", map.title, map.x_names.size(), row.size());
  }
  return Drawing(map).draw();
}

}  // namespace mochi::report
