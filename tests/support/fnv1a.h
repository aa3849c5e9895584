// A hash of floats that generators of golden files compute as well.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mochi {

// FNV-1a of the bytes, 64 bits.
inline std::uint64_t fnv1a(std::span<const float> values) {
  std::uint64_t hash = 0xCBF29CE484222325;
  for (const std::byte byte : std::as_bytes(values)) {
    hash = (hash ^ std::to_integer<std::uint64_t>(byte)) * 0x100000001B3;
  }
  return hash;
}

}  // namespace mochi
