// Numbers that clients write.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace mochi::server {

// Returns nothing if the text has anything but a number of this type. Further arguments are those
// of std::from_chars.
template <typename T, typename... Format>
std::optional<T> parse_number(std::string_view text, Format... format) {
  T value{};
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, format...);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace mochi::server
