#include "base/memory_usage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

namespace mochi {
namespace {

TEST(MemoryUsage, PeakGrowsWithTouchedMemoryAndStays) {
  constexpr std::size_t kNumBytes = std::size_t{256} << 20;
  const std::uint64_t before = peak_memory_bytes();
  EXPECT_GT(before, std::uint64_t{1} << 20);
  {
    const auto block = std::make_unique_for_overwrite<volatile char[]>(kNumBytes);  // NOLINT
    for (std::size_t i = 0; i < kNumBytes; i += 4096) block[i] = 1;
  }
  const std::uint64_t after = peak_memory_bytes();
  EXPECT_GE(after, kNumBytes);
  EXPECT_GE(peak_memory_bytes(), after);
}

TEST(MemoryUsage, SomeMemoryIsAvailable) {
  EXPECT_GT(available_memory_bytes(), std::uint64_t{64} << 20);
  EXPECT_LT(available_memory_bytes(), std::uint64_t{1} << 50);
}

}  // namespace
}  // namespace mochi
