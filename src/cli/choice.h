// Reads a value of an enum that has a list of values and name_of().
#pragma once

#include <fmt/format.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace mochi::cli {

// "'mochi', 'torch-cpu' or 'torch-cuda'"
template <typename Enum, std::size_t kSize>
std::string list_choices(const std::array<Enum, kSize>& values) {
  std::string text;
  for (std::size_t i = 0; i < kSize; ++i) {
    if (i > 0) text += i + 1 < kSize ? ", " : " or ";
    text += fmt::format("'{}'", name_of(values[i]));
  }
  return text;
}

// "mochi|torch-cpu|torch-cuda", as help pages show types.
template <typename Enum, std::size_t kSize>
std::string choice_type(const std::array<Enum, kSize>& values) {
  std::string text;
  for (const Enum value : values)
    text += fmt::format("{}{}", text.empty() ? "" : "|", name_of(value));
  return text;
}

// The value of this name. Throws E, saying where the name was found, what was wanted and found.
template <typename E, typename Enum, std::size_t kSize>
Enum parse_choice(const std::array<Enum, kSize>& values, std::string_view name,
                  std::string_view where) {
  for (const Enum value : values) {
    if (name_of(value) == name) return value;
  }
  throw E(fmt::format("{}: wanted {}, found '{}'", where, list_choices(values), name));
}

}  // namespace mochi::cli
