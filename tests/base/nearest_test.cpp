#include "base/nearest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/temp_folder.h"

namespace mochi {
namespace {

const std::vector<std::string> kKnown{"depth", "num_heads", "hidden_size_x", "hidden_size_y"};

TEST(Nearest, EditDistance) {
  EXPECT_EQ(edit_distance("", ""), 0U);
  EXPECT_EQ(edit_distance("abc", ""), 3U);
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
  EXPECT_EQ(edit_distance("depth", "detph"), 2U);
  EXPECT_EQ(edit_distance("same", "same"), 0U);
}

// By its definition, over all beginnings.
std::size_t literal_distance(std::string_view left, std::string_view right) {
  std::vector<std::vector<std::size_t>> table(left.size() + 1);
  for (std::size_t i = 0; i <= left.size(); ++i) {
    for (std::size_t j = 0; j <= right.size(); ++j) {
      std::size_t least = i == 0 ? j : table[i - 1][j] + 1;
      if (j > 0) least = std::min(least, table[i][j - 1] + 1);
      if (i > 0 && j > 0) {
        least = std::min(least, table[i - 1][j - 1] + (left[i - 1] == right[j - 1] ? 0 : 1));
      }
      table[i].push_back(least);
    }
  }
  return table.back().back();
}

TEST(Nearest, EditDistanceOfRandomTexts) {
  std::mt19937 random(7);
  const auto text_of = [&random](std::size_t size) {
    std::string text;
    for (std::size_t i = 0; i < size; ++i)
      text += static_cast<char>(random() % 2 == 0 ? 'a' : '\xff');
    return text;
  };
  for (const std::size_t left_size : {1, 5, 63, 64}) {
    for (const std::size_t right_size : {1, 4, 62, 64, 66, 200}) {
      const std::string left = text_of(left_size);
      const std::string right = text_of(right_size);
      EXPECT_EQ(edit_distance(left, right), literal_distance(left, right)) << left << right;
      const std::string around = left + right + left;
      EXPECT_EQ(edit_distance(around, left + left), right_size);
    }
  }
}

TEST(Nearest, LongTextsAreComparedWhereTheyDiffer) {
  const std::string long_text(1000, 'x');
  EXPECT_EQ(edit_distance(long_text + "abc" + long_text, long_text + "adc" + long_text), 1U);
  EXPECT_EQ(edit_distance(long_text, std::string(65, 'y')), 1000U);
}

TEST(Nearest, FindsTheClosestName) {
  EXPECT_EQ(nearest_name("dept", kKnown), "depth");
  EXPECT_EQ(nearest_name("hidden_sizey", kKnown), "hidden_size_y");
  EXPECT_EQ(nearest_name("hidden_size_", kKnown), "hidden_size_x");  // the first of equals
  EXPECT_EQ(nearest_name("anything", {}), "");
}

TEST(Nearest, SuggestsOnlyWhatIsNear) {
  EXPECT_EQ(suggest_name("detph", kKnown), "did you mean 'depth'?");
  EXPECT_EQ(suggest_name("colour", kKnown),
            "known are: depth, num_heads, hidden_size_x, hidden_size_y");
  EXPECT_EQ(suggest_name("depth", {}), "none is known");
}

TEST(Nearest, LongListsAreCut) {
  std::vector<std::string> known;
  for (int i = 0; i < 100; ++i) known.push_back("tensor_number_" + std::to_string(i));
  const std::string text = suggest_name("x", known);
  expect_contains(text, "tensor_number_0, tensor_number_1");
  EXPECT_TRUE(text.ends_with(", ...")) << text;
  EXPECT_EQ(text.find("tensor_number_99"), std::string::npos);
}

}  // namespace
}  // namespace mochi
