#include "report/figure.h"

#include <fmt/core.h>

#include "report/markup.h"
#include "report/svg_canvas.h"

namespace mochi::report {
namespace {

// Letters are 11 to 17 pixels high in columns of 360 to 800 pixels.
constexpr std::string_view kStyle = R"(
.drawing { display: block; width: 100%; height: auto; font-size: 13px; }
@media (max-width: 700px) { .drawing { font-size: 17px; } }
@media (max-width: 500px) { .drawing { font-size: 22px; } }
)";

// The room of a title or a legend entry in a file.
constexpr double kLineHeight = 24;

}  // namespace

std::string_view inline_style() { return kStyle; }

std::string make_inline_svg(const Figure& figure) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"drawing\" viewBox=\"0 0 {:.0f} {:.0f}\" "
      "role=\"img\" aria-label=\"{}\" font-family=\"system-ui, sans-serif\" "
      "fill=\"currentColor\">\n{}</svg>\n",
      kDrawingWidth, figure.height, escape_markup(figure.title), figure.elements);
}

std::string make_svg_file(const Figure& figure) {
  SvgCanvas texts;
  double y = kLineHeight;
  texts.add_text(0, y, Anchor::kStart, figure.title);
  for (const LegendEntry& entry : figure.legend) {
    y += kLineHeight;
    texts.add_mark(8, y, 5, entry.mark, entry.color, "");
    texts.add_text(20, y, Anchor::kStart, entry.name);
  }
  y += kLineHeight;
  const double height = y + figure.height;
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" "
      "height=\"{1:.0f}\" role=\"img\" aria-label=\"{2}\" font-family=\"system-ui, sans-serif\" "
      "font-size=\"13\" fill=\"currentColor\">\n{3}<g transform=\"translate(0 {4:.0f})\">\n{5}"
      "</g>\n</svg>\n",
      kDrawingWidth, height, escape_markup(figure.title), texts.elements(), y, figure.elements);
}

}  // namespace mochi::report
