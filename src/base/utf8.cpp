#include "base/utf8.h"

#include <cstdint>

namespace mochi {
namespace {

// Properties of a lead byte: bytes that follow, its own value bits, the least value of this length.
struct Lead {
  std::size_t num_following;
  std::uint32_t value;
  std::uint32_t least;
};

std::optional<Lead> read_lead(std::uint8_t byte) {
  if (byte < 0x80) return Lead{0, byte, 0};
  if ((byte & 0xe0U) == 0xc0) return Lead{1, byte & 0x1fU, 0x80};
  if ((byte & 0xf0U) == 0xe0) return Lead{2, byte & 0x0fU, 0x800};
  if ((byte & 0xf8U) == 0xf0) return Lead{3, byte & 0x07U, 0x10000};
  return std::nullopt;
}

}  // namespace

std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  constexpr std::uint32_t kMaxCodePoint = 0x10ffff;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::optional<Lead> lead = read_lead(static_cast<std::uint8_t>(text[begin]));
    if (!lead || begin + lead->num_following >= text.size()) return begin;
    std::uint32_t value = lead->value;
    for (std::size_t i = 1; i <= lead->num_following; ++i) {
      const auto byte = static_cast<std::uint8_t>(text[begin + i]);
      if ((byte & 0xc0U) != 0x80) return begin;
      value = (value << 6) | (byte & 0x3fU);
    }
    const bool is_surrogate = value >= 0xd800 && value <= 0xdfff;
    if (value < lead->least || value > kMaxCodePoint || is_surrogate) return begin;
    begin += 1 + lead->num_following;
  }
  return std::nullopt;
}

}  // namespace mochi
