#include "io/frame_rate.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>

namespace mochi {
namespace {

constexpr std::int64_t kMaxRate = 1000;  // and 1/kMaxRate is the smallest
constexpr std::int64_t kMaxTerm = 1'000'000'000;
constexpr std::int64_t kNtscNumerator = 1000;
constexpr std::int64_t kNtscDenominator = 1001;

// Digits only, as many as fit below kMaxTerm.
std::optional<std::int64_t> parse_digits(std::string_view text) {
  std::int64_t number = 0;
  const auto* const end = std::to_address(text.end());
  const auto [rest, error] = std::from_chars(std::to_address(text.begin()), end, number);
  const bool is_number = error == std::errc() && rest == end && text.front() != '-';
  return is_number && number <= kMaxTerm ? std::optional(number) : std::nullopt;
}

std::optional<FrameRate> make_rate(std::int64_t numerator, std::int64_t denominator) {
  if (numerator < 1 || denominator < 1) return std::nullopt;
  const std::int64_t divisor = std::gcd(numerator, denominator);
  numerator /= divisor;
  denominator /= divisor;
  const bool is_in_range =
      numerator <= kMaxRate * denominator && denominator <= kMaxRate * numerator;
  if (!is_in_range) return std::nullopt;
  return FrameRate{static_cast<int>(numerator), static_cast<int>(denominator)};
}

// The n·1000/1001 that rounds to scaled / scale.
std::optional<FrameRate> find_ntsc_rate(std::int64_t scaled, std::int64_t scale) {
  const double value = static_cast<double>(scaled) / static_cast<double>(scale);
  const std::int64_t nominal = std::llround(value * kNtscDenominator / kNtscNumerator);
  const double exact = static_cast<double>(nominal * kNtscNumerator) / kNtscDenominator;
  if (std::llround(exact * static_cast<double>(scale)) != scaled) return std::nullopt;
  return make_rate(nominal * kNtscNumerator, kNtscDenominator);
}

std::optional<FrameRate> parse_decimal(std::string_view whole, std::string_view digits) {
  constexpr std::size_t kMaxDigits = 6;
  constexpr std::size_t kMinNtscDigits = 2;
  while (digits.ends_with('0')) digits.remove_suffix(1);
  const std::optional<std::int64_t> whole_number = parse_digits(whole);
  if (!whole_number || *whole_number > kMaxRate || digits.size() > kMaxDigits) return std::nullopt;
  if (digits.empty()) return make_rate(*whole_number, 1);
  const std::optional<std::int64_t> rest = parse_digits(digits);
  if (!rest) return std::nullopt;
  std::int64_t scale = 1;
  for (std::size_t i = 0; i < digits.size(); ++i) scale *= 10;
  const std::int64_t scaled = *whole_number * scale + *rest;
  if (digits.size() >= kMinNtscDigits) {
    if (const std::optional<FrameRate> ntsc = find_ntsc_rate(scaled, scale)) return ntsc;
  }
  return make_rate(scaled, scale);
}

}  // namespace

std::optional<FrameRate> parse_frame_rate(std::string_view text) {
  if (const std::size_t slash = text.find('/'); slash != std::string_view::npos) {
    const std::optional<std::int64_t> numerator = parse_digits(text.substr(0, slash));
    const std::optional<std::int64_t> denominator = parse_digits(text.substr(slash + 1));
    return numerator && denominator ? make_rate(*numerator, *denominator) : std::nullopt;
  }
  const std::size_t point = text.find('.');
  if (point == std::string_view::npos) return parse_decimal(text, "");
  return point + 1 < text.size() ? parse_decimal(text.substr(0, point), text.substr(point + 1))
                                 : std::nullopt;
}

std::string format_frame_rate(const FrameRate& rate) {
  if (rate.denominator == 1) return fmt::format("{}", rate.numerator);
  return fmt::format("{}/{}", rate.numerator, rate.denominator);
}

}  // namespace mochi
