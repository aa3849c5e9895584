#include "base/base64.h"

#include <cstddef>
#include <cstdint>

namespace mochi {

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

}  // namespace mochi
