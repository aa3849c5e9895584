#include "flags/byte_size.h"

#include <gtest/gtest.h>

#include "flags/usage_error.h"

namespace mochi::flags {
namespace {

TEST(ByteSize, ReadsUsualSpellings) {
  EXPECT_EQ(parse_byte_size("16GB", "--x"), 16'000'000'000U);
  EXPECT_EQ(parse_byte_size("1.5gib", "--x"), 1'610'612'736U);
  EXPECT_EQ(parse_byte_size("512MiB", "--x"), 536'870'912U);
  EXPECT_EQ(parse_byte_size("123", "--x"), 123U);
}

TEST(ByteSize, RefusesEverythingElse) {
  for (const char* text : {"", "GB", "16XB", "-1GB", "0", "nan", "inf", "1e30", "16 GB", "1.2.3"}) {
    EXPECT_THROW(parse_byte_size(text, "--x"), UsageError) << text;
  }
}

}  // namespace
}  // namespace mochi::flags
