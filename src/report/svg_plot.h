// Plots for a page. Texts and axes take the page's colour; the colours of series are readable on a
// light and on a dark background.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "report/figure.h"

namespace mochi::report {

struct Series {
  std::string name;                               // in the legend; empty: no entry
  std::vector<std::pair<double, double>> points;  // not finite: a gap
  bool is_line = true;                            // false: points only
  std::vector<std::string> labels = {};           // tooltips of the points, or empty
  Mark mark = Mark::kDot;
};

struct Plot {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  bool is_log_y = false;  // values of 0 and below make gaps
};

Figure draw_plot(const Plot& plot);

struct HeatMap {
  std::string title, x_label, y_label;
  std::vector<std::string> x_names, y_names;
  std::vector<std::vector<double>> values;  // [y][x]; NaN: no cell
  double low = 0, high = 1;                 // ends of the colour bar
};

// Throws Error unless there is a row of values for each of y_names, with one for each of x_names.
Figure draw_heat_map(const HeatMap& map);

}  // namespace mochi::report
