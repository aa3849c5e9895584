#include "flags/flag_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "flags/usage_error.h"

namespace mochi::flags {
namespace {

constexpr std::string_view kRandom = "random";

template <typename Number>
std::optional<Number> parse(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

[[noreturn]] void refuse(std::string_view flag, std::string_view wanted, std::string_view value) {
  throw UsageError(fmt::format("{}: wanted {}, found '{}'", flag, wanted, value));
}

bool is_digits(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::string check_int(std::string_view flag, std::string_view value) {
  const std::optional<std::int64_t> number = parse_whole(value);
  using Limits = std::numeric_limits<std::int32_t>;
  if (number && *number >= Limits::min() && *number <= Limits::max()) {
    return fmt::to_string(*number);
  }
  if (!is_digits(value)) refuse(flag, "a whole number", value);
  throw UsageError(fmt::format("{}: wanted a whole number from {} to {}, found {}", flag,
                               Limits::min(), Limits::max(), value));
}

std::string check_unsigned(std::string_view flag, std::string_view value, std::string_view wanted) {
  if (const auto number = parse_unsigned(value)) return fmt::to_string(*number);
  if (!is_digits(value)) refuse(flag, wanted, value);
  const std::string range =
      value.starts_with('-') ? "0 or more"
                             : fmt::format("at most {}", std::numeric_limits<std::uint64_t>::max());
  throw UsageError(fmt::format("{}: wanted {}, found {}", flag, range, value));
}

std::string check_seed(std::string_view flag, std::string_view value) {
  if (value == kRandom) return fmt::to_string(std::random_device{}());
  return check_unsigned(flag, value, "a whole number or 'random'");
}

std::string check_float(std::string_view flag, std::string_view value) {
  if (!parse_decimal(value)) refuse(flag, "a number", value);
  return std::string(value);
}

// Commas between the parts stay as they are.
std::string check_list(std::string_view flag, std::string_view type, std::string_view value) {
  const bool is_whole = type.starts_with("INT");
  std::string checked;
  for (const std::string_view part : split(value, ',')) {
    if (is_whole ? !parse_whole(part) : !parse_decimal(part)) {
      const char* wanted = is_whole ? "whole numbers separated by commas, such as 7,13"
                                    : "numbers separated by commas, such as 6,6,4.5,1";
      refuse(flag, wanted, value);
    }
    if (!checked.empty()) checked += ',';
    checked += is_whole ? check_int(flag, part) : check_float(flag, part);
  }
  return checked;
}

// Ends a choice that a number may follow: `cuda[:N]` is "cuda" or "cuda:1".
constexpr std::string_view kNumbered = "[:N]";

std::string check_choice(std::string_view flag, std::string_view type, std::string_view value) {
  const std::vector<std::string_view> choices = split(type, '|');
  const auto is_value = [value](std::string_view choice) {
    if (!choice.ends_with(kNumbered)) return value == choice;
    choice.remove_suffix(kNumbered.size());
    if (value == choice) return true;
    return value.starts_with(choice) && value.substr(choice.size()).starts_with(':') &&
           parse_unsigned(value.substr(choice.size() + 1)).has_value();
  };
  if (std::ranges::any_of(choices, is_value)) return std::string(value);
  std::string wanted;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (i > 0) wanted += i + 1 == choices.size() ? " or " : ", ";
    wanted += fmt::format("'{}'", choices[i]);
  }
  refuse(flag, wanted, value);
}

}  // namespace

std::optional<std::int64_t> parse_whole(std::string_view text) { return parse<std::int64_t>(text); }

std::optional<std::uint64_t> parse_unsigned(std::string_view text) {
  return parse<std::uint64_t>(text);
}

std::optional<double> parse_decimal(std::string_view text) {
  const std::optional<double> number = parse<double>(text);
  return number && std::isfinite(*number) ? number : std::nullopt;
}

std::string check_value(std::string_view flag, std::string_view type, std::string_view value) {
  if (type == "TEXT") return std::string(value);
  if (value.empty()) throw UsageError(fmt::format("{}: is empty", flag));
  if (type == "INT") return check_int(flag, value);
  if (type == "UINT") return check_unsigned(flag, value, "a whole number, 0 or more");
  if (type == "UINT|random") return check_seed(flag, value);
  if (type == "FLOAT") return check_float(flag, value);
  if (type == "INT,..." || type == "FLOAT,...") return check_list(flag, type, value);
  if (type.find('|') != std::string_view::npos) return check_choice(flag, type, value);
  return std::string(value);
}

}  // namespace mochi::flags
