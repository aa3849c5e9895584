#include "base/printable.h"

#include <fmt/format.h>

#include "base/utf8.h"

namespace mochi {
namespace {

bool is_printable(char letter) {
  constexpr unsigned char kSpace = 0x20;
  constexpr unsigned char kDelete = 0x7f;
  const auto code = static_cast<unsigned char>(letter);
  return code >= kSpace && code != kDelete;
}

void append_escaped(std::string& text, char letter) {
  text += fmt::format("\\x{:02x}", static_cast<unsigned char>(letter));
}

// Appends valid UTF-8 with its control characters written as \xNN. U+0080 to U+009F are control
// characters, too, and two bytes long: 0xc2 and another one.
void append_printable(std::string& text, std::string_view valid) {
  for (std::size_t i = 0; i < valid.size(); ++i) {
    const bool is_c1 = valid[i] == '\xc2' && static_cast<unsigned char>(valid[i + 1]) < 0xa0;
    if (is_c1) {
      append_escaped(text, valid[i]);
      append_escaped(text, valid[++i]);
    } else if (is_printable(valid[i])) {
      text += valid[i];
    } else {
      append_escaped(text, valid[i]);
    }
  }
}

}  // namespace

std::string printable(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t end = find_invalid_utf8(text).value_or(text.size());
    append_printable(result, text.substr(0, end));
    if (end == text.size()) break;
    append_escaped(result, text[end]);
    text.remove_prefix(end + 1);
  }
  return result;
}

}  // namespace mochi
