#include "server/request_target.h"

#include <gtest/gtest.h>

#include "base/temp_folder.h"
#include "server/http_error.h"

namespace mochi::server {
namespace {

using Segments = std::vector<std::string>;

std::string target_error(const std::string& target) {
  return message_of<HttpError>([&] { parse_request_target(target); });
}

template <typename Call>
std::string query_param_of(const Call& call) {
  try {
    call();
  } catch (const HttpError& error) {
    return error.param();
  }
  return "accepted";
}

TEST(RequestTarget, IsSplitAndDecoded) {
  const RequestTarget target =
      parse_request_target("/v1/vid%65os/%C3%A9+?a=%26%3d+%2B&b&c=&&d=x=y");
  EXPECT_EQ(target.segments, (Segments{"v1", "videos", "\u00e9+"}));
  EXPECT_EQ(target.query.find("a"), "&= +");
  EXPECT_EQ(target.query.find("b"), "");
  EXPECT_EQ(target.query.find("c"), "");
  EXPECT_EQ(target.query.find("d"), "x=y");
  EXPECT_EQ(target.query.find("e"), std::nullopt);
}

TEST(RequestTarget, KeepsEmptySegments) {
  EXPECT_EQ(parse_request_target("/").segments, Segments{});
  EXPECT_EQ(parse_request_target("/?a=1").segments, Segments{});
  EXPECT_EQ(parse_request_target("/v1/").segments, (Segments{"v1", ""}));
  EXPECT_EQ(parse_request_target("//v1").segments, (Segments{"", "v1"}));
  EXPECT_EQ(parse_request_target("/v1?a=/../x").query.find("a"), "/../x");
}

TEST(RequestTarget, RefusesBadEscapesAndCharacters) {
  expect_contains(target_error("/%"), "target: wanted %01 to %FF, found '%'");
  expect_contains(target_error("/%4"), "found '%4'");
  expect_contains(target_error("/%4g"), "found '%4g'");
  expect_contains(target_error("/%+4"), "found '%+4'");
  expect_contains(target_error("/a%00b"), "found '%00'");
  expect_contains(target_error("/?a=%00"), "found '%00'");
  for (const std::string& target :
       {std::string(), std::string("*"), std::string("http://a/"), std::string("/a b"),
        std::string("/#a"), std::string("/\0", 2), std::string("/\n"), std::string("/\x7f")}) {
    expect_contains(target_error(target), "wanted a path that begins with /");
  }
}

TEST(RequestTarget, LeadsOutOfNoFolder) {
  for (const char* target : {"/a/../b", "/..", "/%2e%2E/a", "/./a", "/%2e", "/a%2fb", "/..%2Fb"}) {
    expect_contains(target_error(target), "wanted names between slashes");
  }
}

TEST(Query, RefusesDuplicates) {
  EXPECT_EQ(target_error("/?a=1&b=2&%61=1"), "a: is given twice");
  EXPECT_EQ(query_param_of([] { Query("a=1&a"); }), "a");
}

TEST(Query, ReadsTypedValues) {
  const Query query("n=7&big=99999999999999999999&text=x7&order=asc&on=1&off=false&empty=");
  constexpr std::array<std::string_view, 2> kOrders{"desc", "asc"};
  EXPECT_EQ(query.get_int("n", 1, 0, 10), 7);
  EXPECT_EQ(query.get_int("absent", 1, 0, 10), 1);
  EXPECT_EQ(message_of<HttpError>([&] { query.get_int("n", 1, 0, 6); }),
            "n: wanted 0 to 6, found '7'");
  EXPECT_EQ(query_param_of([&] { query.get_int("big", 1, 0, 10); }), "big");
  EXPECT_EQ(query_param_of([&] { query.get_int("text", 1, 0, 10); }), "text");
  EXPECT_EQ(query_param_of([&] { query.get_int("empty", 1, 0, 10); }), "empty");
  EXPECT_EQ(query.get_choice("order", kOrders), "asc");
  EXPECT_EQ(query.get_choice("absent", kOrders), "desc");
  EXPECT_EQ(message_of<HttpError>([&] { query.get_choice("text", kOrders); }),
            "text: wanted desc or asc, found 'x7'");
  EXPECT_TRUE(query.get_flag("on"));
  EXPECT_FALSE(query.get_flag("off"));
  EXPECT_FALSE(query.get_flag("absent"));
  EXPECT_EQ(query_param_of([&] { query.get_flag("empty"); }), "empty");
}

TEST(Page, HasDefaultsAndLimits) {
  const Page page = read_page(Query(""));
  EXPECT_EQ(page.limit, 20);
  EXPECT_EQ(page.after, std::nullopt);
  EXPECT_FALSE(page.is_ascending);
  const Page other = read_page(Query("limit=100&after=video_1&order=asc"));
  EXPECT_EQ(other.limit, 100);
  EXPECT_EQ(other.after, "video_1");
  EXPECT_TRUE(other.is_ascending);
  for (const char* limit : {"limit=0", "limit=101", "limit=-1", "limit=+5", "limit=5x", "limit="}) {
    EXPECT_EQ(query_param_of([&] { read_page(Query(limit)); }), "limit") << limit;
  }
  EXPECT_EQ(query_param_of([] { read_page(Query("order=up")); }), "order");
  EXPECT_EQ(message_of<HttpError>([] { read_page(Query("limits=5")); }),
            "limits: unknown parameter, did you mean 'limit'?");
}

}  // namespace
}  // namespace mochi::server
