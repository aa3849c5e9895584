#include "report/svg_plot.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "report/axis.h"
#include "report/svg_canvas.h"

namespace mochi::report {
namespace {

constexpr double kPlotHeight = 250;
constexpr int kMaxXTicks = 10, kMaxYTicks = 6, kMaxLogTicks = 7;
constexpr double kGridOpacity = 0.15;
// Colours of medium lightness, which stand out from white and from black.
constexpr std::array kColors{"#2f81f7", "#e8730c", "#2da44e", "#c04ad6",
                             "#d1242f", "#0f9d9d", "#a8860b", "#8a8f98"};

class PlotDrawing {
 public:
  explicit PlotDrawing(const Plot& plot)
      : plot_(plot),
        x_axis_(make_x_axis(plot)),
        y_axis_(make_y_axis(plot)),
        box_{kLeftMargin, kTop, kDrawingWidth - kLeftMargin - kRightMargin, kPlotHeight} {}

  Figure draw() {
    add_axes();
    bool has_points = false;
    for (std::size_t i = 0; i < plot_.series.size(); ++i) {
      has_points |= add_series(plot_.series[i], color_of(i));
    }
    if (!has_points) {
      canvas_.add_text(box_.left + box_.width / 2, box_.top + box_.height / 2, Anchor::kMiddle,
                       "no values");
    }
    return {plot_.title, make_legend(), canvas_.elements(), box_.bottom() + kBottom};
  }

 private:
  static const char* color_of(std::size_t series_idx) {
    return kColors[series_idx % kColors.size()];
  }

  static bool is_shown(const Plot& plot, const std::pair<double, double>& point) {
    return is_drawable(point.first, false) && is_drawable(point.second, plot.is_log_y);
  }

  static Axis make_x_axis(const Plot& plot) {
    AxisRange range;
    bool is_integral = true;
    for (const Series& series : plot.series) {
      for (const auto& point : series.points) {
        // Points without a y value count: plots of the same steps have the same axis.
        if (!is_drawable(point.first, false)) continue;
        range.add(point.first);
        is_integral &= point.first == std::round(point.first);
      }
    }
    return make_axis(range, AxisEnds::kData, kMaxXTicks, is_integral);
  }

  static Axis make_y_axis(const Plot& plot) {
    AxisRange range;
    for (const Series& series : plot.series) {
      for (const auto& point : series.points) {
        if (is_shown(plot, point)) range.add(point.second);
      }
    }
    return plot.is_log_y ? make_log_axis(range, kMaxLogTicks)
                         : make_axis(range, AxisEnds::kTicks, kMaxYTicks);
  }

  double x_of(double value) const { return box_.left + x_axis_.place(value) * box_.width; }
  double y_of(double value) const { return box_.bottom() - y_axis_.place(value) * box_.height; }

  void add_axes() {
    for (const double tick : x_axis_.ticks) {
      canvas_.add_line(x_of(tick), box_.top, x_of(tick), box_.bottom(), kGridOpacity);
      add_x_mark(canvas_, box_, x_of(tick), format_tick(x_axis_, tick));
    }
    for (const double tick : y_axis_.ticks) {
      canvas_.add_line(box_.left, y_of(tick), box_.right(), y_of(tick), kGridOpacity);
      add_y_mark(canvas_, box_, y_of(tick), format_tick(y_axis_, tick));
    }
    add_surroundings(canvas_, box_, plot_.x_label, plot_.y_label);
  }

  // Returns whether the series has a point to draw.
  bool add_series(const Series& series, const std::string& color) {
    std::string path;
    bool is_in_line = false;
    for (const auto& point : series.points) {
      const bool is_point = is_shown(plot_, point);
      if (is_point) {
        path += fmt::format("{}{:.1f},{:.1f}", is_in_line ? 'L' : 'M', x_of(point.first),
                            y_of(point.second));
      }
      is_in_line = is_point;
    }
    if (path.empty()) return false;
    if (series.is_line) canvas_.add_path(path, color);
    add_dots(series, color);
    return true;
  }

  void add_dots(const Series& series, const std::string& color) {
    for (std::size_t i = 0; i < series.points.size(); ++i) {
      const auto& [x, y] = series.points[i];
      if (!is_shown(plot_, series.points[i])) continue;
      const std::string tooltip = i < series.labels.size()
                                      ? series.labels[i]
                                      : fmt::format("{}: {:.6g}, {:.6g}", series.name, x, y);
      canvas_.add_mark(x_of(x), y_of(y), series.is_line ? 3 : 5, series.mark, color, tooltip);
    }
  }

  std::vector<LegendEntry> make_legend() const {
    std::vector<LegendEntry> legend;
    for (std::size_t i = 0; i < plot_.series.size(); ++i) {
      const Series& series = plot_.series[i];
      if (series.name.empty()) continue;
      legend.push_back({series.name, color_of(i), series.is_line ? Mark::kLine : series.mark});
    }
    return legend;
  }

  const Plot& plot_;
  Axis x_axis_, y_axis_;
  Box box_;
  SvgCanvas canvas_;
};

}  // namespace

Figure draw_plot(const Plot& plot) { return PlotDrawing(plot).draw(); }

}  // namespace mochi::report
