#include "hub/http.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi::hub {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Headers, NamesHaveNoCaseAndAStatusLineStartsAgain) {
  Headers headers;
  headers.add_line("HTTP/1.1 302 Found\r\n");
  headers.add_line("X-Linked-Size:  12 \r\n");
  EXPECT_EQ(headers.find("x-linked-size"), "12");
  headers.add_line("HTTP/1.1 200 OK\r\n");
  headers.add_line("no colon\r\n");
  EXPECT_EQ(headers.find("x-linked-size"), "");
}

TEST(Headers, ContentRanges) {
  const auto range = parse_content_range("bytes 5-9/100");
  ASSERT_TRUE(range);
  EXPECT_EQ(range->begin, 5U);
  EXPECT_EQ(range->end, 10U);
  EXPECT_EQ(range->size, 100U);
  EXPECT_FALSE(parse_content_range("bytes 0-0/*")->size);
  for (const char* text :
       {"", "bytes", "bytes */100", "bytes 0-18446744073709551615/*", "bytes 9-5/100",
        "items 0-1/2", "bytes 0-1", "bytes -1-1/2", "bytes 0-1/x"}) {
    EXPECT_FALSE(parse_content_range(text)) << text;
  }
}

TEST(Headers, RetryAfterAndNextLinks) {
  EXPECT_EQ(parse_retry_after("7"), seconds(7));
  EXPECT_EQ(parse_retry_after("999999999"), seconds(3600));
  EXPECT_FALSE(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"));
  EXPECT_EQ(parse_next_link("<https://a/b>; rel=\"prev\", <https://a/c?d=e>; rel=\"next\""),
            "https://a/c?d=e");
  EXPECT_EQ(parse_next_link("<https://a/b>; rel=\"last\""), "");
  EXPECT_EQ(parse_next_link("<unfinished"), "");
}

TEST(Retries, WaitTwiceAsLongEachTimeOrAsTheServerWants) {
  EXPECT_EQ(retry_delay(1, std::nullopt, 0), milliseconds(200));
  EXPECT_EQ(retry_delay(4, std::nullopt, 0), milliseconds(1600));
  EXPECT_EQ(retry_delay(4, std::nullopt, 1), milliseconds(3200));
  EXPECT_EQ(retry_delay(1000, std::nullopt, 0), milliseconds(30'000));
  EXPECT_EQ(retry_delay(1, seconds(9), 1), seconds(9));
  EXPECT_EQ(retry_delay(1, seconds(0), 1), milliseconds(200));
}

TEST(Retries, StatusesAndFailuresThatMayPass) {
  for (const long status : {408L, 429L, 500L, 502L, 503L, 504L}) EXPECT_TRUE(may_pass(status));
  for (const long status : {200L, 302L, 401L, 403L, 404L, 416L, 501L})
    EXPECT_FALSE(may_pass(status));
  EXPECT_TRUE(may_pass(CURLE_RECV_ERROR));
  EXPECT_FALSE(may_pass(CURLE_PEER_FAILED_VERIFICATION));
}

TEST(Repository, NamesAndRevisions) {
  EXPECT_EQ(parse_repository("a/b"), (Repository{"a/b", "main"}));
  EXPECT_EQ(parse_repository("a/b.c@refs/pr/1"), (Repository{"a/b.c", "refs/pr/1"}));
  for (const char* text : {"", "a", "a/", "/b", "a/b/c", "a/..", "a/b@", "a/b@../x", "a/b@x y",
                           "a b/c", "a/b?c", "a@b/c"}) {
    expect_contains(message_of<InvalidRequest>([&] { parse_repository(text); }), "OWNER/REPO");
  }
}

TEST(Repository, AddressesAreEncoded) {
  const Repository repository{"a/b", "refs/pr/1"};
  EXPECT_EQ(file_url("https://h", repository, "c d/e#?%.json"),
            "https://h/a/b/resolve/refs%2Fpr%2F1/c%20d/e%23%3F%25.json");
  EXPECT_EQ(file_url("https://h", {"a/b"}, "\xc3\xa9"), "https://h/a/b/resolve/main/%C3%A9");
  EXPECT_EQ(tree_url("https://h", repository),
            "https://h/api/models/a/b/tree/refs%2Fpr%2F1?recursive=true");
}

TEST(Repository, Origins) {
  EXPECT_TRUE(same_origin("https://Hub.co/a", "https://hub.co:443/b?c"));
  EXPECT_FALSE(same_origin("https://hub.co/a", "http://hub.co/a"));
  EXPECT_FALSE(same_origin("https://hub.co/a", "https://hub.co.evil/a"));
  EXPECT_FALSE(same_origin("https://hub.co/a", "https://hub.co@evil/a"));
  EXPECT_FALSE(same_origin("http://127.0.0.1:80/", "http://127.0.0.1:81/"));
  EXPECT_FALSE(same_origin("", ""));
}

TEST(Repository, SecretsOfAddressesAreNotShown) {
  EXPECT_EQ(shown_url("https://me:pass@hub.co/a?signature=b#c"), "https://hub.co/a");
}

}  // namespace
}  // namespace mochi::hub
