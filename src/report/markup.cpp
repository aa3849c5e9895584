#include "report/markup.h"

#include <cstdint>

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

std::string encode_base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  constexpr std::size_t kGroup = 3;
  std::string text;
  text.reserve((bytes.size() + 2) / kGroup * 4);
  for (std::size_t begin = 0; begin < bytes.size(); begin += kGroup) {
    std::uint32_t bits = 0;
    for (std::size_t i = begin; i < begin + kGroup; ++i) {
      bits = bits << 8 | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0U);
    }
    for (std::size_t digit = 0; digit < 4; ++digit) {
      const bool is_padding = begin + digit > bytes.size();
      text += is_padding ? '=' : kDigits[bits >> (18 - 6 * digit) & 63U];
    }
  }
  return text;
}

}  // namespace mochi::report
