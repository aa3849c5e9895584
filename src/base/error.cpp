#include "base/error.h"

namespace mochi {
namespace {

std::string printable(const std::string& text) {
  constexpr unsigned char kSpace = 0x20;
  constexpr unsigned char kDelete = 0x7f;
  std::string result;
  for (const char letter : text) {
    const auto code = static_cast<unsigned char>(letter);
    if (code < kSpace || code == kDelete) {
      result += fmt::format("\\x{:02x}", code);
    } else {
      result += letter;
    }
  }
  return result;
}

}  // namespace

Error::Error(const std::string& message) : std::runtime_error(printable(message)) {}

}  // namespace mochi
