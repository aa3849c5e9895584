#include "report/markup.h"

#include "base/utf8.h"

namespace mochi::report {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

std::string make_valid_utf8(std::string_view text) {
  std::string valid;
  for (auto at = find_invalid_utf8(text); at; at = find_invalid_utf8(text)) {
    valid.append(text.substr(0, *at)).append(kReplacement);
    text.remove_prefix(*at + 1);
  }
  return valid.append(text);
}

}  // namespace

std::string escape_markup(std::string_view text) {
  std::string escaped;
  for (const char letter : make_valid_utf8(text)) {
    const auto byte = static_cast<unsigned char>(letter);
    if (letter == '&') {
      escaped += "&amp;";
    } else if (letter == '<') {
      escaped += "&lt;";
    } else if (letter == '>') {
      escaped += "&gt;";
    } else if (letter == '"') {
      escaped += "&quot;";
    } else if ((byte < 0x20 && letter != '\n' && letter != '\t') || byte == 0x7F) {
      escaped += kReplacement;
    } else {
      escaped += letter;
    }
  }
  return escaped;
}

}  // namespace mochi::report
