#include "server/byte_range.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "server/header_text.h"

namespace mochi::server {
namespace {

constexpr ByteRange kWholeFile{};
constexpr ByteRange kOutside{ByteRange::Kind::kUnsatisfiable, 0, 0};

// Returns nothing if the text is not a number; the largest number for larger ones.
std::optional<std::uint64_t> parse_position(std::string_view text) {
  constexpr std::uint64_t kBase = 10;
  if (text.empty()) return std::nullopt;
  std::uint64_t value = 0;
  for (const char digit : text) {
    if (digit < '0' || digit > '9') return std::nullopt;
    if (__builtin_mul_overflow(value, kBase, &value) ||
        __builtin_add_overflow(value, static_cast<std::uint64_t>(digit - '0'), &value)) {
      value = std::numeric_limits<std::uint64_t>::max();
    }
  }
  return value;
}

ByteRange last_bytes(std::uint64_t num_bytes, std::uint64_t size) {
  if (num_bytes == 0) return kOutside;
  if (size == 0) return kWholeFile;
  return {ByteRange::Kind::kPart, size - std::min(num_bytes, size), size - 1};
}

}  // namespace

ByteRange parse_byte_range(std::string_view header, std::uint64_t size) {
  const std::size_t equals = header.find('=');
  if (equals == std::string_view::npos || to_lower(header.substr(0, equals)) != "bytes") {
    return kWholeFile;
  }
  const std::string_view range = trim_blanks(header.substr(equals + 1));
  const std::size_t dash = range.find('-');
  if (dash == std::string_view::npos) return kWholeFile;
  const std::string_view end = range.substr(dash + 1);
  const std::optional<std::uint64_t> last =
      end.empty() ? std::numeric_limits<std::uint64_t>::max() : parse_position(end);
  if (dash == 0) return last && !end.empty() ? last_bytes(*last, size) : kWholeFile;
  const std::optional<std::uint64_t> first = parse_position(range.substr(0, dash));
  if (!first || !last || *first > *last) return kWholeFile;
  if (*first >= size) return kOutside;
  return {ByteRange::Kind::kPart, *first, std::min(*last, size - 1)};
}

}  // namespace mochi::server
