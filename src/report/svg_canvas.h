// The few SVG elements that plots are drawn with, and the measures that all drawings share.
#pragma once

#include <string>
#include <string_view>

#include "report/figure.h"

namespace mochi::report {

enum class Anchor : unsigned char { kStart, kMiddle, kEnd };

// Sizes are in units of the drawing. A page scales drawings to the width of its column, so that one
// unit is about one pixel in a window and half a pixel on a phone.
//
// All drawings have this width and these margins: x axes of drawings below each other are aligned.
inline constexpr double kDrawingWidth = 720;
inline constexpr double kLeftMargin = 92, kRightMargin = 24;
// Room is left for the largest letters that a page uses, which are those on a phone.
inline constexpr double kLargestFontSize = 22;

// Approximate width of a text in the largest letters.
double text_width(std::string_view text);

struct Box {
  double left, top, width, height;
  double right() const { return left + width; }
  double bottom() const { return top + height; }
};

class SvgCanvas {
 public:
  void add_line(double x1, double y1, double x2, double y2, double opacity);
  // `y` is the middle of the letters.
  void add_text(double x, double y, Anchor anchor, const std::string& text);
  // `path` has the form of SVG's attribute: "M1,2L3,4".
  void add_path(const std::string& path, const std::string& color);
  // `tooltip` may be empty.
  void add_mark(double x, double y, double radius, Mark mark, const std::string& color,
                const std::string& tooltip);
  void add_cell(const Box& box, const std::string& color, const std::string& tooltip);
  void add_frame(const Box& box);

  const std::string& elements() const { return elements_; }

 private:
  std::string elements_;
};

// The room of the axes' names above and below a box.
inline constexpr double kTop = 46, kBottom = 64;

// Draws the frame and the names of both axes: y's above the box, x's below the marks.
void add_surroundings(SvgCanvas& canvas, const Box& box, const std::string& x_label,
                      const std::string& y_label);
// Draws the text of a mark below or to the left of the box.
void add_x_mark(SvgCanvas& canvas, const Box& box, double x, const std::string& text);
void add_y_mark(SvgCanvas& canvas, const Box& box, double y, const std::string& text);

}  // namespace mochi::report
