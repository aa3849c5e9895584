#include "flags/shell_command.h"

#include <gtest/gtest.h>

#include <vector>

namespace mochi::flags {
namespace {

TEST(ShellCommand, QuotesWordsThatNeedIt) {
  EXPECT_EQ(quote("a/b-1.mp4"), "a/b-1.mp4");
  EXPECT_EQ(quote(""), "''");
  EXPECT_EQ(quote("my video.mp4"), "'my video.mp4'");
  EXPECT_EQ(quote("it's"), "'it'\\''s'");
  EXPECT_EQ(quote("$HOME"), "'$HOME'");
  EXPECT_EQ(quote("two\nlines"), "$'two\\x0alines'");
  EXPECT_EQ(quote("\x1bit's \\ caf\xe9"), "$'\\x1bit\\'s \\\\ caf\\xe9'");
  const std::vector<std::string> words{"./mochi", "decode", "a b"};
  EXPECT_EQ(join_command(words), "./mochi decode 'a b'");
}

TEST(ShellCommand, PathsAreNotTakenForFlags) {
  EXPECT_EQ(path_word("-a.mp4"), "./-a.mp4");
  EXPECT_EQ(path_word("--fps/a.mp4"), "./--fps/a.mp4");
  EXPECT_EQ(path_word("a-b.mp4"), "a-b.mp4");
}

}  // namespace
}  // namespace mochi::flags
