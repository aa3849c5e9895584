#include "report/svg_plot.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"
#include "base/temp_folder.h"
#include "report/html_page.h"

namespace mochi::report {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

std::string elements_of(const Plot& plot) { return draw_plot(plot).elements; }

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t number = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++number;
  }
  return number;
}

void expect_numbers(const std::string& svg) {
  for (const char* word : {"nan", "inf", "NaN", "-0.0\""}) {
    EXPECT_EQ(svg.find(word), std::string::npos) << word << " in " << svg;
  }
}

// Returns the text after the first `key` up to the closing quotation mark.
std::string attribute(const std::string& svg, const std::string& key) {
  const std::size_t begin = svg.find(key) + key.size();
  return svg.substr(begin, svg.find('"', begin) - begin);
}

TEST(Plot, AGapWhereAValueIsNotFinite) {
  for (const bool is_log : {false, true}) {
    const std::string svg =
        elements_of({"t",
                     "x",
                     "y",
                     {{"s", {{0, 1}, {1, 2}, {2, kNan}, {3, 4}, {4, kInf}, {5, 1e300}}}},
                     is_log});
    expect_numbers(svg);
    EXPECT_EQ(count(svg, "<circle"), 3U);
    const std::string path = attribute(svg, "<path d=\"");
    EXPECT_EQ(count(path, "M"), 2U);
    EXPECT_EQ(count(path, "L"), 1U);
  }
}

TEST(Plot, SeriesHaveMarks) {
  const Figure figure = draw_plot(
      {"t",
       "x",
       "y",
       {{.name = "line", .points = {{0, 1}, {1, 2}}},
        {.name = "dots", .points = {{0, 2}}, .is_line = false},
        {.name = "squares", .points = {{1, 2}}, .is_line = false, .mark = Mark::kSquare},
        {.name = "triangles", .points = {{1, 1}}, .is_line = false, .mark = Mark::kTriangle}}});
  EXPECT_EQ(count(figure.elements, "<circle"), 3U);  // two of them on the line
  EXPECT_EQ(count(figure.elements, "<path"), 3U);
  EXPECT_EQ(count(figure.elements, "squares: 1, 2"), 1U);
  HtmlPage page("p");
  page.add_figure(figure);
  const std::string text = page.finish();
  for (const char* glyph :
       {"━</span> line", "●</span> dots", "■</span> squares", "▲</span> triangles"}) {
    EXPECT_NE(text.find(glyph), std::string::npos) << glyph;
  }
  EXPECT_EQ(count(make_svg_file(figure), "<path"), 6U);
}

TEST(Plot, LogAxesLeaveOutValuesWithoutALogarithm) {
  const std::string svg = elements_of({"t", "x", "y", {{"", {{0, 0}, {1, -1}, {2, 1}}}}, true});
  expect_numbers(svg);
  EXPECT_EQ(count(svg, "<circle"), 1U);
}

TEST(Plot, NothingAndOnePointAreDrawn) {
  const std::string empty = elements_of({"t", "x", "y", {{"s", {}}, {"r", {{kNan, 1}}}}});
  expect_numbers(empty);
  EXPECT_NE(empty.find("no values"), std::string::npos);
  for (const bool is_log : {false, true}) {
    const std::string one = elements_of({"t", "x", "y", {{"", {{3, 3}}}}, is_log});
    expect_numbers(one);
    EXPECT_EQ(count(one, "<circle"), 1U);
    EXPECT_EQ(one.find("no values"), std::string::npos);
  }
}

TEST(Plot, LargerValuesLieHigherAndFurtherRight) {
  const std::string svg = elements_of({"t", "x", "y", {{"", {{0, 10}, {1, 20}}, false}}});
  const std::size_t first = svg.find("<circle");
  const std::string rest = svg.substr(svg.find("<circle", first + 1));
  const auto number = [](const std::string& text, const char* key) {
    return std::stod(attribute(text, key));
  };
  EXPECT_LT(number(svg.substr(first), "cx=\""), number(rest, "cx=\""));
  EXPECT_GT(number(svg.substr(first), "cy=\""), number(rest, "cy=\""));
  EXPECT_EQ(count(svg, "<path"), 0U);
}

TEST(Plot, TextsAreEscaped) {
  const Figure figure = draw_plot({"a<b & \"c\"", "<x>", "y&", {{"<s>", {{1, 1}}, true, {"<l>"}}}});
  HtmlPage page("");
  page.add_figure(figure);
  for (const std::string& text : {page.finish(), make_svg_file(figure)}) {
    EXPECT_EQ(count(text, "a&lt;b &amp; &quot;c&quot;"), 2U);  // the title, and the name
    EXPECT_NE(text.find("<title>&lt;l&gt;</title>"), std::string::npos);
    EXPECT_NE(text.find("&lt;s&gt;</"), std::string::npos);
    for (const char* raw : {"<x>", "<s>", "<l>", "y&<"}) {
      EXPECT_EQ(text.find(raw), std::string::npos) << raw;
    }
  }
}

TEST(Plot, NamedSeriesAreInTheLegend) {
  const Figure figure = draw_plot({"t", "x", "y", {{"a", {{1, 1}}}, {"", {}}, {"c", {{2, 2}}}}});
  ASSERT_EQ(figure.legend.size(), 2U);
  EXPECT_EQ(figure.legend[1].name, "c");
  EXPECT_NE(figure.elements.find("fill=\"" + figure.legend[1].color), std::string::npos);
}

// Returns the middles of all elements of a kind: "cx" of points, "x" and "width" of cells.
std::vector<double> middles_of(const std::string& elements, const std::string& tag) {
  std::vector<double> middles;
  for (std::size_t at = elements.find(tag); at != std::string::npos;
       at = elements.find(tag, at + 1)) {
    const std::string rest = elements.substr(at, elements.find('>', at) - at);
    if (rest.find("fill=\"#") == std::string::npos) continue;  // a frame
    const bool is_point = tag == "<circle";
    const double left = std::stod(attribute(rest, is_point ? "cx=\"" : "x=\""));
    middles.push_back(is_point ? left : left + std::stod(attribute(rest, "width=\"")) / 2);
  }
  return middles;
}

TEST(Figures, StepsOfPlotsAndHeatMapsAreAligned) {
  const std::string line = elements_of({"t", "step", "y", {{"", {{0, 5}, {1, 6}, {2, 7}}}}});
  // A plot without a value at its first step, and with longer numbers.
  const std::string late = elements_of({"t", "step", "y", {{"", {{0, kNan}, {1, 6e4}, {2, 7e4}}}}});
  const Figure map = draw_heat_map({"t", "step", "l", {"0", "1", "2"}, {"a"}, {{1, 1, 1}}, 0, 1});
  const std::vector<double> points = middles_of(line, "<circle");
  const std::vector<double> late_points = middles_of(late, "<circle");
  const std::vector<double> cells = middles_of(map.elements, "<rect");
  ASSERT_EQ(points.size(), 3U);
  ASSERT_EQ(late_points.size(), 2U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(points[i], cells.at(i), 0.1);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_NEAR(points[i + 1], late_points[i], 0.1);
}

TEST(Figures, LettersGrowOnSmallScreens) {
  const std::string svg = make_inline_svg(draw_plot({"t", "x", "y", {{"", {{0, 5}}}}}));
  EXPECT_NE(svg.find("viewBox=\"0 0 720 "), std::string::npos);
  // The page decides on the width, and thereby on the size of a unit.
  EXPECT_EQ(svg.substr(0, svg.find('>')).find(" width="), std::string::npos);
  EXPECT_EQ(svg.find("font-size"), std::string::npos);
  EXPECT_NE(inline_style().find("max-width: 500px) { .drawing { font-size: 22px"),
            std::string::npos);
}

TEST(HeatMap, CellsWithoutAValueAreLeftOut) {
  const HeatMap map{"t", "step", "layer", {"0", "1"}, {"a", "b"}, {{0.2, kNan}, {kInf, 0.9}}, 0, 1};
  const std::string svg = draw_heat_map(map).elements;
  expect_numbers(svg);
  EXPECT_EQ(count(svg, "<title>"), 2U);
  EXPECT_NE(svg.find("<title>layer b, step 1: 0.9</title>"), std::string::npos);
}

TEST(HeatMap, TheEndsOfTheBarAreTheEndsOfTheColours) {
  const HeatMap map{"t", "x", "y", {"0", "1", "2"}, {"a"}, {{-5, 5, 20}}, 0, 10};
  const std::string svg = draw_heat_map(map).elements;
  EXPECT_NE(svg.find("fill=\"#440154\"><title>y a, x 0: -5<"), std::string::npos);
  EXPECT_NE(svg.find("fill=\"#fde725\"><title>y a, x 2: 20<"), std::string::npos);
}

TEST(HeatMap, DrawsWithoutCellsAndWithoutARange) {
  expect_numbers(draw_heat_map({"t", "x", "y", {}, {}, {}, 0, 1}).elements);
  expect_numbers(draw_heat_map({"t", "x", "y", {"0"}, {"a"}, {{1}}, 1, 1}).elements);
  expect_numbers(draw_heat_map({"t", "x", "y", {"0"}, {"a"}, {{1}}, kNan, kInf}).elements);
}

TEST(HeatMap, RefusesOtherNumbersOfValues) {
  expect_contains(
      message_of<Error>([] { draw_heat_map({"t", "x", "y", {"0"}, {"a", "b"}, {{1}}, 0, 1}); }),
      "'t': wanted 2 rows of values, found 1");
  expect_contains(
      message_of<Error>([] { draw_heat_map({"t", "x", "y", {"0"}, {"a"}, {{1, 2}}, 0, 1}); }),
      "'t': wanted 1 values in a row, found 2");
}

}  // namespace
}  // namespace mochi::report
