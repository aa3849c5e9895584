#include "job/checksum.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace mochi::job {
namespace {

// Odd, so that multiplying loses nothing; half of their bits are set.
constexpr std::uint64_t kFirstFactor = 0x9e3779b97f4a7c15;
constexpr std::uint64_t kSecondFactor = 0xd6e8feb86659fd93;

// For a given word a permutation of the lanes in which every bit reaches every other.
std::uint64_t mix(std::uint64_t lane, std::uint64_t word) {
  std::uint64_t mixed = (lane ^ word) * kFirstFactor;
  mixed = (mixed ^ (mixed >> 32)) * kSecondFactor;
  return mixed ^ (mixed >> 32);
}

}  // namespace

void Checksum::add(std::span<const std::byte> bytes) {
  const std::size_t size = bytes.size();
  constexpr std::size_t kStripe = sizeof(lanes_);
  while (!bytes.empty()) {
    std::array<std::uint64_t, 4> words{};  // the last stripe is filled up with zeros
    const std::size_t count = std::min(bytes.size(), kStripe);
    std::memcpy(words.data(), bytes.data(), count);
    for (std::size_t i = 0; i < lanes_.size(); ++i) lanes_[i] = mix(lanes_[i], words[i]);
    bytes = bytes.subspan(count);
  }
  add(std::uint64_t{size});
}

void Checksum::add(std::string_view text) { add(std::as_bytes(std::span(text))); }

void Checksum::add(std::uint64_t number) { lanes_[0] = mix(lanes_[0], number); }

std::string Checksum::text() const {
  std::uint64_t sum = 0;
  for (const std::uint64_t lane : lanes_) sum = mix(sum, lane) + lane;
  return fmt::format("{:016x}", sum);
}

}  // namespace mochi::job
