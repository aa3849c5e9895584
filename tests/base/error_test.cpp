#include "base/error.h"

#include <gtest/gtest.h>

#include <string>

#include "base/temp_folder.h"

namespace mochi {
namespace {

TEST(Error, FailFormatsTheMessage) {
  const auto action = [] { fail("tensor '{}': wanted {}, found {}", "x", 3, 4); };
  EXPECT_EQ(message_of<Error>(action), "tensor 'x': wanted 3, found 4");
}

TEST(Error, ControlCharactersAreSpeltOut) {
  const std::string name("a\nb\x1b[31m\0c\x7f \xc3\xa9", 14);
  EXPECT_STREQ(Error(name).what(), "a\\x0ab\\x1b[31m\\x00c\\x7f \xc3\xa9");
}

}  // namespace
}  // namespace mochi
