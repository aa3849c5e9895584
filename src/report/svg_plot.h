// Plots as SVG text that stands in a page. Text and axes take the page's colour, and the colours of
// series are readable on light and on dark ground.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace mochi::report {

struct Series {
  std::string name;                               // in the legend; empty: not there
  std::vector<std::pair<double, double>> points;  // not finite: a gap
  bool is_line = true;                            // else points alone
  std::vector<std::string> labels = {};           // what each point says when pointed at, or empty
};

struct Plot {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  bool is_log_y = false;  // values of 0 and below make gaps
};

std::string draw_plot(const Plot& plot);

struct HeatMap {
  std::string title, x_label, y_label;
  std::vector<std::string> x_names, y_names;
  std::vector<std::vector<double>> values;  // [y][x]; NaN: no cell
  double low = 0, high = 1;                 // ends of the colour bar
};

// Throws Error unless there is a row of values for each of y_names, with one for each of x_names.
std::string draw_heat_map(const HeatMap& map);

}  // namespace mochi::report
