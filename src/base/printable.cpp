#include "base/printable.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>

namespace mochi {
namespace {

std::uint32_t byte_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

// The number of bytes that a UTF-8 character has whose first byte is `lead`; 0 if none begins so.
std::size_t num_bytes_of(std::uint32_t lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead < 0xe0) return 2;
  if (lead >= 0xe0 && lead < 0xf0) return 3;
  if (lead >= 0xf0 && lead < 0xf5) return 4;
  return 0;
}

// The number of bytes of the printable character at the front of the text; 0 if there is none.
std::size_t num_printable_bytes(std::string_view text) {
  const std::uint32_t lead = byte_at(text, 0);
  const std::size_t num_bytes = num_bytes_of(lead);
  if (num_bytes == 1) return lead < 0x20 || lead == 0x7f ? 0 : 1;
  if (num_bytes == 0 || num_bytes > text.size()) return 0;
  std::uint32_t code = lead & (0x7fU >> num_bytes);
  for (std::size_t i = 1; i < num_bytes; ++i) {
    const std::uint32_t byte = byte_at(text, i);
    if ((byte & 0xc0U) != 0x80) return 0;
    code = code << 6U | (byte & 0x3fU);
  }
  const bool is_control = code < 0xa0;  // 0x80 to 0x9f, which some terminals obey
  const bool is_surrogate = code >= 0xd800 && code < 0xe000;
  const bool is_overlong = (num_bytes == 3 && code < 0x800) || (num_bytes == 4 && code < 0x10000);
  const bool is_line_end = code == 0x2028 || code == 0x2029;
  return is_control || is_surrogate || is_overlong || is_line_end || code > 0x10ffff ? 0
                                                                                     : num_bytes;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const std::size_t num_bytes = num_printable_bytes(text);
    if (num_bytes == 0) {
      result += fmt::format("\\x{:02x}", byte_at(text, 0));
      text.remove_prefix(1);
    } else {
      result += text.substr(0, num_bytes);
      text.remove_prefix(num_bytes);
    }
  }
  return result;
}

}  // namespace mochi
