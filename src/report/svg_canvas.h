// The few elements that plots are drawn with.
#pragma once

#include <string>
#include <string_view>

namespace mochi::report {

enum class Anchor : unsigned char { kStart, kMiddle, kEnd };

inline constexpr double kFontSize = 12;    // pixels
inline constexpr double kTitleSize = 15;   // pixels
inline constexpr double kLineHeight = 18;  // pixels

// About how wide a text gets, in pixels: the true width is the viewer's business.
double text_width(std::string_view text, double size = kFontSize);

struct Box {
  double left, top, width, height;
  double right() const { return left + width; }
  double bottom() const { return top + height; }
};

class SvgCanvas {
 public:
  // `title` stands over the drawing and is its name for those who cannot see it.
  SvgCanvas(double width, double height, const std::string& title);

  void add_line(double x1, double y1, double x2, double y2, double opacity);
  void add_text(double x, double y, Anchor anchor, const std::string& text);
  // Upwards, around its middle.
  void add_upright_text(double x, double y, const std::string& text);
  // `path` as SVG has it: "M1,2L3,4".
  void add_path(const std::string& path, const std::string& color);
  // `tooltip` may be empty.
  void add_dot(double x, double y, double radius, const std::string& color,
               const std::string& tooltip);
  void add_cell(const Box& box, const std::string& color, const std::string& tooltip);
  void add_frame(const Box& box);

  std::string finish() const { return svg_ + "</svg>\n"; }

 private:
  std::string svg_;
};

// The title, the frame, and the names of both axes.
void add_surroundings(SvgCanvas& canvas, const Box& box, const std::string& x_label,
                      const std::string& y_label);

}  // namespace mochi::report
