// Text inside XML and HTML.
#pragma once

#include <string>
#include <string_view>

namespace mochi::report {

// Escapes text for content and attribute values. Bytes that are not UTF-8, and control characters,
// become U+FFFD.
std::string escape_markup(std::string_view text);

}  // namespace mochi::report
