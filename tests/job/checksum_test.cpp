#include "job/checksum.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace mochi::job {
namespace {

std::string checksum_of(std::span<const std::byte> bytes) {
  Checksum checksum;
  checksum.add(bytes);
  return checksum.text();
}

TEST(Checksum, DependsOnEveryBitAndOnTheLength) {
  std::set<std::string> seen;
  for (std::size_t size = 0; size < 70; ++size) {
    std::vector<std::byte> bytes(size);
    EXPECT_TRUE(seen.insert(checksum_of(bytes)).second) << size;
    for (std::size_t bit = 0; bit < 8 * size; ++bit) {
      std::vector<std::byte> changed = bytes;
      changed[bit / 8] = static_cast<std::byte>(1U << (bit % 8));
      EXPECT_TRUE(seen.insert(checksum_of(changed)).second) << size << ", bit " << bit;
    }
  }
}

TEST(Checksum, DependsOnWhereTextsAreSplit) {
  Checksum first;
  first.add("ab");
  first.add("c");
  Checksum second;
  second.add("a");
  second.add("bc");
  EXPECT_NE(first.text(), second.text());
  EXPECT_EQ(first.text().size(), 16U);
}

}  // namespace
}  // namespace mochi::job
