// Requests for a part of a file: the header Range (RFC 9110, section 14).
#pragma once

#include <cstdint>
#include <string_view>

namespace mochi::server {

struct ByteRange {
  enum class Kind : std::uint8_t {
    kWhole,          // 200: no range, several ranges, another unit, or nonsense
    kPart,           // 206: the bytes first to last, both included
    kUnsatisfiable,  // 416: the range begins after the end
  };
  Kind kind = Kind::kWhole;
  std::uint64_t first = 0, last = 0;

  // Only kPart has a size.
  std::uint64_t num_bytes() const { return last - first + 1; }
  bool operator==(const ByteRange&) const = default;
};

// Returns the part of a file of `size` bytes that the header asks for; `header` may be empty.
ByteRange parse_byte_range(std::string_view header, std::uint64_t size);

}  // namespace mochi::server
