#include "server/api_keys.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi::server {
namespace {

constexpr const char* kApiKey = "0123456789abcdef";

std::string keys_error(const std::string& text) {
  return message_of<Error>([&] { ApiKeys::parse(text, "keys.txt"); });
}

std::optional<std::string> owner_of(const ApiKeys& keys, const std::string& key) {
  return keys.find("Bearer " + key);
}

TEST(ApiKeys, HaveNames) {
  const ApiKeys keys = ApiKeys::parse(
      "# keys\r\n\r\n"
      "alice: aaaaaaaaaaaaaaaa\n"
      "  Bob at work :bbbbbbbbbbbbbbbb  \r\n"
      "0123456789abcdef\n"
      "alice: cccccccccccccccc",
      "keys.txt");
  EXPECT_EQ(owner_of(keys, "aaaaaaaaaaaaaaaa"), "alice");
  EXPECT_EQ(owner_of(keys, "bbbbbbbbbbbbbbbb"), "Bob at work");
  EXPECT_EQ(owner_of(keys, "cccccccccccccccc"), "alice");
  // printf 0123456789abcdef | sha256sum
  EXPECT_EQ(owner_of(keys, kApiKey), "9f9f5111");
  EXPECT_EQ(keys.names(), (std::vector<std::string>{"alice", "Bob at work", "9f9f5111", "alice"}));
}

TEST(ApiKeys, FindsOnlyWholeKeysOfTheScheme) {
  const ApiKeys keys = ApiKeys::parse(kApiKey, "keys.txt");
  EXPECT_TRUE(keys.find("bearer  0123456789abcdef "));
  for (const char* header : {"", "Bearer", "Bearer ", "0123456789abcdef", "Basic 0123456789abcdef",
                             "Bearer 0123456789abcde", "Bearer 0123456789abcdeff",
                             "Bearer 0123456789ABCDEF", "Bearer:0123456789abcdef"}) {
    EXPECT_FALSE(keys.find(header)) << header;
  }
  EXPECT_FALSE(ApiKeys().find("Bearer 0123456789abcdef"));
  EXPECT_TRUE(ApiKeys().is_empty());
}

TEST(ApiKeys, RefusesDamagedLinesWithoutShowingThem) {
  EXPECT_EQ(keys_error("# a\nshort"),
            "keys.txt:2: wanted a key of at least 16 characters, found 5");
  EXPECT_EQ(keys_error("name:"), "keys.txt:1: wanted a key of at least 16 characters, found 0");
  for (const char* line : {"0123456789 abcdef", "0123456789abcde\xc3\xa9", "0123456789abcdef\x01",
                           "name: 0123456789\tabcdef"}) {
    EXPECT_EQ(
        keys_error(line),
        "keys.txt:1: wanted a key of printable ASCII characters without spaces, found another "
        "character");
  }
  EXPECT_EQ(keys_error(": 0123456789abcdef"),
            "keys.txt:1: wanted 'NAME: KEY', found a name that is empty");
  EXPECT_EQ(keys_error("a\x1b: 0123456789abcdef"),
            "keys.txt:1: wanted 'NAME: KEY', found a name that is not printable UTF-8");
  EXPECT_EQ(keys_error("0123456789abcdef\n\nbob: 0123456789abcdef"),
            "keys.txt:3: the key of line 1 again");
}

TEST(ApiKeys, FileMustHaveKeys) {
  const TempFolder folder;
  EXPECT_TRUE(ApiKeys::read(folder.write("keys.txt", kApiKey)).find("Bearer 0123456789abcdef"));
  const auto read_error = [&](const char* content) {
    return message_of<Error>([&] { ApiKeys::read(folder.write("keys.txt", content)); });
  };
  expect_contains(read_error("# none\n"), "keys.txt': wanted one key per line, found none");
  expect_contains(message_of<Error>([&] { ApiKeys::read(folder / "absent"); }), "cannot read");
}

TEST(ApiKeys, WarnsOfOtherReaders) {
  const TempFolder folder;
  const std::filesystem::path file = folder.write("keys.txt", kApiKey);
  using std::filesystem::perms;
  std::filesystem::permissions(file, perms::owner_read | perms::owner_write);
  EXPECT_EQ(warn_of_readers(file), "");
  std::filesystem::permissions(file, perms::owner_read | perms::group_read);
  expect_contains(warn_of_readers(file), "can be read or changed by other users");
}

}  // namespace
}  // namespace mochi::server
