#include "report/svg_canvas.h"

#include <fmt/core.h>

#include <algorithm>

#include "report/markup.h"

namespace mochi::report {
namespace {

const char* name_of(Anchor anchor) {
  if (anchor == Anchor::kStart) return "start";
  return anchor == Anchor::kMiddle ? "middle" : "end";
}

std::string tooltip_element(const std::string& tooltip) {
  return tooltip.empty() ? "" : fmt::format("<title>{}</title>", escape_markup(tooltip));
}

// Squares and triangles look about as large as a dot of the same radius.
std::string outline_of(Mark mark, double x, double y, double radius) {
  if (mark == Mark::kTriangle) {
    const double reach = 1.3 * radius;
    return fmt::format("M{:.1f},{:.1f}l{:.1f},{:.1f}h{:.1f}z", x, y - reach, reach, 1.8 * reach,
                       -2 * reach);
  }
  const double width = 1.8 * radius;
  const double height = mark == Mark::kLine ? 2 : width;
  return fmt::format("M{:.1f},{:.1f}h{:.1f}v{:.1f}h{:.1f}z", x - width / 2, y - height / 2, width,
                     height, -width);
}

}  // namespace

double text_width(std::string_view text) {
  const auto num_letters = std::ranges::count_if(
      text, [](char letter) { return (static_cast<unsigned char>(letter) & 0xC0U) != 0x80U; });
  return static_cast<double>(num_letters) * kLargestFontSize * 0.58;
}

void SvgCanvas::add_line(double x1, double y1, double x2, double y2, double opacity) {
  elements_ += fmt::format(
      R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="currentColor" opacity="{}"/>)"
      "\n",
      x1, y1, x2, y2, opacity);
}

void SvgCanvas::add_text(double x, double y, Anchor anchor, const std::string& text) {
  elements_ += fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}" dy="0.35em">{}</text>)"
                           "\n",
                           x, y, name_of(anchor), escape_markup(text));
}

void SvgCanvas::add_path(const std::string& path, const std::string& color) {
  elements_ += fmt::format(
      R"(<path d="{}" fill="none" stroke="{}" stroke-width="2" stroke-linejoin="round"/>)"
      "\n",
      path, color);
}

void SvgCanvas::add_mark(double x, double y, double radius, Mark mark, const std::string& color,
                         const std::string& tooltip) {
  if (mark != Mark::kDot) {
    elements_ += fmt::format(R"(<path d="{}" fill="{}">{}</path>)"
                             "\n",
                             outline_of(mark, x, y, radius), color, tooltip_element(tooltip));
    return;
  }
  elements_ += fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="{}" fill="{}">{}</circle>)"
                           "\n",
                           x, y, radius, color, tooltip_element(tooltip));
}

void SvgCanvas::add_cell(const Box& box, const std::string& color, const std::string& tooltip) {
  elements_ += fmt::format(
      R"(<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" shape-rendering="crispEdges" fill="{}">{}</rect>)"
      "\n",
      box.left, box.top, box.width, box.height, color, tooltip_element(tooltip));
}

void SvgCanvas::add_frame(const Box& box) {
  elements_ +=
      fmt::format(R"(<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="none" )"
                  R"(stroke="currentColor" opacity="0.5"/>)"
                  "\n",
                  box.left, box.top, box.width, box.height);
}

void add_surroundings(SvgCanvas& canvas, const Box& box, const std::string& x_label,
                      const std::string& y_label) {
  canvas.add_frame(box);
  canvas.add_text(box.left + box.width / 2, box.bottom() + 48, Anchor::kMiddle, x_label);
  canvas.add_text(0, box.top - 28, Anchor::kStart, y_label);
}

void add_x_mark(SvgCanvas& canvas, const Box& box, double x, const std::string& text) {
  canvas.add_text(x, box.bottom() + 18, Anchor::kMiddle, text);
}

void add_y_mark(SvgCanvas& canvas, const Box& box, double y, const std::string& text) {
  canvas.add_text(box.left - 8, y, Anchor::kEnd, text);
}

}  // namespace mochi::report
