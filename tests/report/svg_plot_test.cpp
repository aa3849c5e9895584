#include "report/svg_plot.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi::report {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

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

// What stands behind the first `key` up to the closing quotation mark.
std::string attribute(const std::string& svg, const std::string& key) {
  const std::size_t begin = svg.find(key) + key.size();
  return svg.substr(begin, svg.find('"', begin) - begin);
}

TEST(Plot, AGapWhereAValueIsNotFinite) {
  for (const bool is_log : {false, true}) {
    const std::string svg =
        draw_plot({"t",
                   "x",
                   "y",
                   {{"s", {{0, 1}, {1, 2}, {2, kNan}, {3, 4}, {4, kInf}, {5, 1e300}}}},
                   is_log});
    expect_numbers(svg);
    EXPECT_EQ(count(svg, "<circle"), 4U);  // three points, and the legend's
    const std::string path = attribute(svg, "<path d=\"");
    EXPECT_EQ(count(path, "M"), 2U);
    EXPECT_EQ(count(path, "L"), 1U);
  }
}

TEST(Plot, LogAxesLeaveOutWhatHasNoLogarithm) {
  const std::string svg = draw_plot({"t", "x", "y", {{"", {{0, 0}, {1, -1}, {2, 1}}}}, true});
  expect_numbers(svg);
  EXPECT_EQ(count(svg, "<circle"), 1U);
}

TEST(Plot, NothingAndOnePointAreDrawn) {
  const std::string empty = draw_plot({"t", "x", "y", {{"s", {}}, {"r", {{kNan, 1}}}}});
  expect_numbers(empty);
  EXPECT_NE(empty.find("no values"), std::string::npos);
  for (const bool is_log : {false, true}) {
    const std::string one = draw_plot({"t", "x", "y", {{"", {{3, 3}}}}, is_log});
    expect_numbers(one);
    EXPECT_EQ(count(one, "<circle"), 1U);
    EXPECT_EQ(one.find("no values"), std::string::npos);
  }
}

TEST(Plot, LargerValuesLieHigherAndFurtherRight) {
  const std::string svg = draw_plot({"t", "x", "y", {{"", {{0, 10}, {1, 20}}, false}}});
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
  const std::string svg =
      draw_plot({"a<b & \"c\"", "<x>", "y&", {{"<s>", {{1, 1}}, true, {"<l>"}}}});
  EXPECT_NE(svg.find("a&lt;b &amp; &quot;c&quot;"), std::string::npos);
  EXPECT_NE(svg.find("<title>&lt;l&gt;</title>"), std::string::npos);
  for (const char* raw : {"<x>", "<s>", "<l>", "y&<"}) {
    EXPECT_EQ(svg.find(raw), std::string::npos) << raw;
  }
}

TEST(HeatMap, CellsWithoutAValueAreLeftOut) {
  const HeatMap map{"t", "step", "layer", {"0", "1"}, {"a", "b"}, {{0.2, kNan}, {kInf, 0.9}}, 0, 1};
  const std::string svg = draw_heat_map(map);
  expect_numbers(svg);
  EXPECT_EQ(count(svg, "<title>"), 2U);
  EXPECT_NE(svg.find("<title>layer b, step 1: 0.9</title>"), std::string::npos);
}

TEST(HeatMap, TheEndsOfTheBarAreTheEndsOfTheColours) {
  const HeatMap map{"t", "x", "y", {"0", "1", "2"}, {"a"}, {{-5, 5, 20}}, 0, 10};
  const std::string svg = draw_heat_map(map);
  EXPECT_NE(svg.find("fill=\"#440154\"><title>y a, x 0: -5<"), std::string::npos);
  EXPECT_NE(svg.find("fill=\"#fde725\"><title>y a, x 2: 20<"), std::string::npos);
}

TEST(HeatMap, DrawsWithoutCellsAndWithoutARange) {
  expect_numbers(draw_heat_map({"t", "x", "y", {}, {}, {}, 0, 1}));
  expect_numbers(draw_heat_map({"t", "x", "y", {"0"}, {"a"}, {{1}}, 1, 1}));
  expect_numbers(draw_heat_map({"t", "x", "y", {"0"}, {"a"}, {{1}}, kNan, kInf}));
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
