// Text inside XML and HTML, and bytes inside text.
#pragma once

#include <string>
#include <string_view>

namespace mochi::report {

// Escapes text for content and attribute values. Bytes that are not UTF-8, and control characters,
// become U+FFFD.
std::string escape_markup(std::string_view text);

std::string encode_base64(std::string_view bytes);

}  // namespace mochi::report
