#include "server/http_error.h"

#include <gtest/gtest.h>

namespace mochi::server {
namespace {

TEST(HttpError, IsAnObjectForClients) {
  EXPECT_EQ(to_json(bad_request("width", "wanted an integer, found 'x'")).dump(),
            R"({"error":{"message":"width: wanted an integer, found 'x'",)"
            R"("type":"invalid_request_error","param":"width","code":null}})");
  EXPECT_EQ(to_json(HttpError(404, "no video 'x'", "", "video_not_found")).dump(),
            R"({"error":{"message":"no video 'x'","type":"invalid_request_error",)"
            R"("param":null,"code":"video_not_found"}})");
}

TEST(HttpError, HasTheTypeOfItsStatus) {
  EXPECT_EQ(HttpError(401, "").type(), "authentication_error");
  EXPECT_EQ(HttpError(403, "").type(), "permission_error");
  EXPECT_EQ(HttpError(422, "").type(), "invalid_request_error");
  EXPECT_EQ(HttpError(429, "").type(), "rate_limit_error");
  EXPECT_EQ(HttpError(503, "").type(), "server_error");
}

// The text may come from a client's bytes.
TEST(HttpError, IsAlwaysValidJson) {
  EXPECT_EQ(to_json(bad_request("a\xff", "b\n"))["error"]["message"], "a\\xff: b\\x0a");
  EXPECT_NO_THROW(to_json(bad_request("a\xff", "b")).dump());
  EXPECT_EQ(to_json(bad_request("a\xff", "b"))["error"]["param"], "a\\xff");
}

TEST(HttpError, CutsLongTextsBetweenCharacters) {
  const std::string text = bad_request("", std::string(499, 'a') + "\u00e9\u00e9").what();
  EXPECT_EQ(text, std::string(499, 'a') + "...");
  EXPECT_EQ(bad_request(std::string(10'000, 'a'), "").param().size(), 503U);
}

}  // namespace
}  // namespace mochi::server
