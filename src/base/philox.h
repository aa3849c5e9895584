// Philox 4x32 with ten rounds: a random function of a 128-bit counter and a 64-bit key (Salmon,
// Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", 2011).
#pragma once

#include <array>
#include <cstdint>

namespace mochi {

using PhiloxWords = std::array<std::uint32_t, 4>;

constexpr std::uint32_t low_half(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
constexpr std::uint32_t high_half(std::uint64_t value) {
  return static_cast<std::uint32_t>(value >> 32);
}

constexpr PhiloxWords philox_4x32_10(PhiloxWords counter, std::uint64_t key) {
  std::uint32_t key_low = low_half(key);
  std::uint32_t key_high = high_half(key);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t first = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t second = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {high_half(second) ^ counter[1] ^ key_low, low_half(second),
               high_half(first) ^ counter[3] ^ key_high, low_half(first)};
    key_low += 0x9E3779B9;   // the golden ratio
    key_high += 0xBB67AE85;  // sqrt(3) - 1
  }
  return counter;
}

}  // namespace mochi
