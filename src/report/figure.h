// A drawing and the texts around it: a page wraps the texts, a file has them inside the drawing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mochi::report {

// The shapes of points, and the sign of a line in a legend.
enum class Mark : unsigned char { kDot, kSquare, kTriangle, kLine };

struct LegendEntry {
  std::string name, color;
  Mark mark = Mark::kDot;
};

struct Figure {
  std::string title;
  std::vector<LegendEntry> legend;
  std::string elements;  // SVG, in units of the drawing, kDrawingWidth wide
  double height = 0;     // in these units
};

// Returns CSS rules for inline drawings: they have the width of their column, and letters that stay
// readable on small screens.
std::string_view inline_style();

// Returns the drawing alone, for a page; its name for people who cannot see it is the title.
std::string make_inline_svg(const Figure& figure);

// Returns a whole SVG file, with title and legend.
std::string make_svg_file(const Figure& figure);

}  // namespace mochi::report
