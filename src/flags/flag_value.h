// Values on the command line, taken literally: the type that a flag's help shows decides which
// values it accepts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mochi::flags {

// Returns a whole decimal number, which may begin with a minus sign; nothing for "0x10", "1e3",
// "+5", " 5" and for numbers that 64 bits cannot hold.
std::optional<std::int64_t> parse_whole(std::string_view text);
std::optional<std::uint64_t> parse_unsigned(std::string_view text);

// A finite decimal number such as "4.5", "-1" or "1e-3".
std::optional<double> parse_decimal(std::string_view text);

// Returns the form of `value` that every parser reads alike ("010" is "10"), for these types:
//
//   TEXT          anything, also nothing
//   INT, UINT     a whole number of 32 bits, one of 64 bits that is not negative
//   FLOAT         a finite decimal number
//   INT,... FLOAT,...   those, separated by commas
//   auto|cpu      one of these words
//   UINT|random   a number, or the word: then 32 random bits
//   others (FILE) anything but nothing
//
// Throws UsageError that begins with `flag` for every other value.
std::string check_value(std::string_view flag, std::string_view type, std::string_view value);

}  // namespace mochi::flags
