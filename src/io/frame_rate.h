// Frame rates as exact fractions, and their spelling in flags, JSON and messages.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mochi {

// Frames per second: 30/1, 24000/1001.
struct FrameRate {
  int numerator = 30;
  int denominator = 1;

  double value() const { return static_cast<double>(numerator) / denominator; }
  bool operator==(const FrameRate&) const = default;
};

// Which texts parse_frame_rate() accepts, for error messages.
inline constexpr std::string_view kFrameRateRule =
    "a number or a fraction from 1/1000 to 1000, such as 24, 23.976 or 24000/1001";

// "30", "12.5" or "24000/1001", reduced to lowest terms; nothing if the text is none of these or
// is out of range. A decimal number that is n·1000/1001 rounded to its two or more digits stands
// for that fraction: "29.97" is 30000/1001, "23.976" and "23.98" are 24000/1001.
std::optional<FrameRate> parse_frame_rate(std::string_view text);

// "30" or "24000/1001": what parse_frame_rate() reads back as the same rate.
std::string format_frame_rate(const FrameRate& rate);

}  // namespace mochi
