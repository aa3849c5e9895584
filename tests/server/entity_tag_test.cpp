#include "server/entity_tag.h"

#include <gtest/gtest.h>

namespace mochi::server {
namespace {

TEST(IfNoneMatch, ListsTags) {
  EXPECT_TRUE(is_none_match_hit("\"a\"", "\"a\""));
  EXPECT_TRUE(is_none_match_hit(" \"b\" , W/\"a\"", "\"a\""));
  EXPECT_TRUE(is_none_match_hit("\"b,\",,\"a\",", "\"a\""));
  EXPECT_TRUE(is_none_match_hit("\"a\"", "W/\"a\""));
  EXPECT_TRUE(is_none_match_hit(" * ", "\"a\""));
  for (const char* header :
       {"", "a", "\"", "\"b\"", "\"a", "\"b\" \"a\"", "w/\"a\"", "W/", "\"b\",*"}) {
    EXPECT_FALSE(is_none_match_hit(header, "\"a\"")) << header;
  }
}

TEST(IfRange, WantsTheSameStrongTag) {
  EXPECT_TRUE(is_range_valid("", "\"a\""));
  EXPECT_TRUE(is_range_valid(" \"a\"", "\"a\""));
  EXPECT_FALSE(is_range_valid("\"b\"", "\"a\""));
  EXPECT_FALSE(is_range_valid("W/\"a\"", "\"a\""));
  EXPECT_FALSE(is_range_valid("W/\"a\"", "W/\"a\""));
  EXPECT_FALSE(is_range_valid("Wed, 21 Oct 2026 07:28:00 GMT", "\"a\""));
}

}  // namespace
}  // namespace mochi::server
