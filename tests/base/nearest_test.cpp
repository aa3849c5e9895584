#include "base/nearest.h"

#include <gtest/gtest.h>

#include <string>
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
