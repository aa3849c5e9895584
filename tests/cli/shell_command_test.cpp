#include "cli/shell_command.h"

#include <gtest/gtest.h>

#include <vector>

namespace mochi::cli {
namespace {

TEST(ShellCommand, QuotesWordsThatNeedIt) {
  EXPECT_EQ(quote("a/b-1.mp4"), "a/b-1.mp4");
  EXPECT_EQ(quote(""), "''");
  EXPECT_EQ(quote("my video.mp4"), "'my video.mp4'");
  EXPECT_EQ(quote("it's"), "'it'\\''s'");
  EXPECT_EQ(quote("$HOME"), "'$HOME'");
  const std::vector<std::string> words{"./mochi", "decode", "a b"};
  EXPECT_EQ(join_command(words), "./mochi decode 'a b'");
}

}  // namespace
}  // namespace mochi::cli
