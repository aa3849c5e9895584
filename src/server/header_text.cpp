#include "server/header_text.h"

#include <algorithm>

namespace mochi::server {
namespace {

constexpr std::string_view kBlanks = " \t";

bool is_token_character(char letter) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  const bool is_alphanumeric = (letter >= '0' && letter <= '9') ||
                               (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z');
  return is_alphanumeric || kMarks.find(letter) != std::string_view::npos;
}

void skip_blanks(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
}

// Removes a string in quotes from the beginning of `text`.
std::optional<std::string> take_quoted(std::string_view& text) {
  std::string value;
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') {
      text.remove_prefix(i + 1);
      return value;
    }
    const bool is_escape =
        text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == '"' || text[i + 1] == '\\');
    if (is_escape) ++i;
    value += text[i];
  }
  return std::nullopt;
}

// Removes a value without quotes. Boundaries have more characters in it than tokens may.
std::optional<std::string> take_unquoted(std::string_view& text) {
  const std::size_t end = std::min(text.find_first_of(" \t;\""), text.size());
  if (end == 0) return std::nullopt;
  std::string value(text.substr(0, end));
  text.remove_prefix(end);
  return value;
}

std::optional<std::pair<std::string, std::string>> take_parameter(std::string_view& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || !is_token(text.substr(0, equals))) return std::nullopt;
  std::string name = to_lower(text.substr(0, equals));
  text.remove_prefix(equals + 1);
  std::optional<std::string> value =
      text.starts_with('"') ? take_quoted(text) : take_unquoted(text);
  if (!value) return std::nullopt;
  return std::pair(std::move(name), *std::move(value));
}

}  // namespace

bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, is_token_character);
}

std::string_view trim_blanks(std::string_view text) {
  skip_blanks(text);
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

std::string to_lower(std::string_view text) {
  constexpr char kDistance = 'a' - 'A';
  std::string lower(text);
  for (char& letter : lower) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter + kDistance);
  }
  return lower;
}

std::optional<std::string> HeaderValue::find(std::string_view name) const {
  const auto found = std::ranges::find(parameters, name, [](const auto& it) { return it.first; });
  if (found == parameters.end()) return std::nullopt;
  return found->second;
}

std::optional<HeaderValue> parse_header_value(std::string_view text) {
  const std::size_t end = std::min(text.find(';'), text.size());
  HeaderValue header;
  header.value = to_lower(trim_blanks(text.substr(0, end)));
  text.remove_prefix(end);
  while (!text.empty()) {
    if (text.front() != ';') return std::nullopt;
    text.remove_prefix(1);
    skip_blanks(text);
    if (text.empty() || text.front() == ';') continue;  // RFC 9110 allows empty parameters
    std::optional<std::pair<std::string, std::string>> parameter = take_parameter(text);
    if (!parameter || header.find(parameter->first)) return std::nullopt;
    header.parameters.push_back(*std::move(parameter));
    skip_blanks(text);
  }
  return header;
}

}  // namespace mochi::server
