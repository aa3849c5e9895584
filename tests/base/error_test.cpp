#include "base/error.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "base/temp_folder.h"

namespace mochi {
namespace {

TEST(Error, FailFormatsTheMessage) {
  const auto action = [] { fail("tensor '{}': wanted {}, found {}", "x", 3, 4); };
  EXPECT_EQ(message_of<Error>(action), "tensor 'x': wanted 3, found 4");
}

TEST(Error, WordsOfTheSystemSpeakOfFolders) {
  EXPECT_EQ(describe_errno(ENOENT), "No such file or folder");
  EXPECT_EQ(describe_errno(EISDIR), "Is a folder");
  EXPECT_EQ(describe_errno(ENOTEMPTY), "Folder not empty");
  EXPECT_EQ(describe_errno(EACCES), "Permission denied");
}

TEST(Error, ControlCharactersAreSpeltOut) {
  const std::string name("a\nb\x1b[31m\0c\x7f \xc3\xa9", 14);
  EXPECT_STREQ(Error(name).what(), "a\\x0ab\\x1b[31m\\x00c\\x7f \xc3\xa9");
}

// A terminal obeys some of these, and a message that is not UTF-8 cannot be written as JSON.
TEST(Error, BytesThatAreNotTextAreSpeltOut) {
  EXPECT_STREQ(Error("caf\xe9.png").what(), "caf\\xe9.png");
  EXPECT_STREQ(Error("\xff\xfe").what(), "\\xff\\xfe");
  EXPECT_STREQ(Error("cut \xe4\xbd").what(), "cut \\xe4\\xbd");
  EXPECT_STREQ(Error("\xc2\x9b[31m \xc2\xa0").what(), "\\xc2\\x9b[31m \xc2\xa0");
}

TEST(Error, SeparatesARefusedFieldFromItsProblem) {
  try {
    refuse("num_frames", "wanted {}, found {}", 7, 8);
    FAIL() << "nothing was thrown";
  } catch (const InvalidRequest& error) {
    EXPECT_EQ(error.field(), "num_frames");
    EXPECT_EQ(error.problem(), "wanted 7, found 8");
    EXPECT_STREQ(error.what(), "num_frames: wanted 7, found 8");
  }
}

}  // namespace
}  // namespace mochi
