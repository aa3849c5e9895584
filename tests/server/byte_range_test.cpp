#include "server/byte_range.h"

#include <gtest/gtest.h>

#include <limits>

namespace mochi::server {
namespace {

using RangeKind = ByteRange::Kind;

ByteRange bytes_between(std::uint64_t first, std::uint64_t last) {
  return {RangeKind::kPart, first, last};
}

TEST(ByteRange, ReadsOneRange) {
  EXPECT_EQ(parse_byte_range("bytes=0-99", 1000), bytes_between(0, 99));
  EXPECT_EQ(parse_byte_range("bytes=0-0", 1000), bytes_between(0, 0));
  EXPECT_EQ(parse_byte_range("bytes=990-", 1000), bytes_between(990, 999));
  EXPECT_EQ(parse_byte_range("Bytes= 990-2000 ", 1000), bytes_between(990, 999));
  EXPECT_EQ(parse_byte_range("bytes=-10", 1000), bytes_between(990, 999));
  EXPECT_EQ(parse_byte_range("bytes=-5000", 1000), bytes_between(0, 999));
  EXPECT_EQ(bytes_between(990, 999).num_bytes(), 10U);
}

TEST(ByteRange, IsUnsatisfiableAfterTheEnd) {
  for (const char* header : {"bytes=1000-", "bytes=1000-2000", "bytes=-0"}) {
    EXPECT_EQ(parse_byte_range(header, 1000).kind, RangeKind::kUnsatisfiable) << header;
  }
  EXPECT_EQ(parse_byte_range("bytes=0-", 0).kind, RangeKind::kUnsatisfiable);
  EXPECT_EQ(parse_byte_range("bytes=-1", 0).kind, RangeKind::kWhole);
}

TEST(ByteRange, NumbersDoNotOverflow) {
  constexpr std::uint64_t kLargest = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(parse_byte_range("bytes=1-99999999999999999999999", 1000), bytes_between(1, 999));
  EXPECT_EQ(parse_byte_range("bytes=-99999999999999999999999", 1000), bytes_between(0, 999));
  EXPECT_EQ(parse_byte_range("bytes=18446744073709551616-", 1000).kind, RangeKind::kUnsatisfiable);
  EXPECT_EQ(parse_byte_range("bytes=99999999999999999999-", kLargest).kind,
            RangeKind::kUnsatisfiable);
  EXPECT_EQ(parse_byte_range("bytes=0-", kLargest), bytes_between(0, kLargest - 1));
}

TEST(ByteRange, OtherHeadersMeanTheWholeFile) {
  for (const char* header : {"", "bytes", "bytes=", "bytes=-", "bytes=5", "bytes=2-1", "bytes=a-b",
                             "bytes=1-b", "bytes=--1", "bytes=+1-2", "bytes=0-1,5-6", "bytes=1 -2",
                             "lines=0-1", "=0-1", "bytes =0-1"}) {
    EXPECT_EQ(parse_byte_range(header, 1000).kind, RangeKind::kWhole) << header;
  }
}

}  // namespace
}  // namespace mochi::server
