#include "flags/byte_size.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cmath>
#include <map>

#include "flags/usage_error.h"

namespace mochi::flags {
namespace {

constexpr double kMostBytes = 1e15;

std::string lower_case(std::string text) {
  for (char& letter : text) {
    letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  }
  return text;
}

}  // namespace

std::uint64_t parse_byte_size(const std::string& text, const std::string& flag) {
  static const std::map<std::string, double> units{
      {"", 1},      {"b", 1},        {"kb", 1e3},     {"mb", 1e6},     {"gb", 1e9},
      {"tb", 1e12}, {"kib", 0x1p10}, {"mib", 0x1p20}, {"gib", 0x1p30}, {"tib", 0x1p40}};
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  const auto unit = units.find(lower_case({rest, end}));
  const bool is_size = error == std::errc() && unit != units.end() && std::isfinite(number);
  const double bytes = is_size ? number * unit->second : 0;
  if (!is_size || bytes < 1 || bytes > kMostBytes) {
    throw UsageError(
        fmt::format("{}: wanted a size such as 16GB or 512MiB, found '{}'", flag, text));
  }
  return static_cast<std::uint64_t>(bytes);
}

}  // namespace mochi::flags
