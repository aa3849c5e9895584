// Syntax that the headers of HTTP share (RFC 9110, section 5.6).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mochi::server {

// Returns true if `text` is a token: the name of a header, a type or a parameter.
bool is_token(std::string_view text);

// Returns the text without spaces and tabs at its ends.
std::string_view trim_blanks(std::string_view text);

// ASCII letters alone change.
std::string to_lower(std::string_view text);

// `form-data; name="prompt"`.
struct HeaderValue {
  std::string value;                                            // in lower case
  std::vector<std::pair<std::string, std::string>> parameters;  // names in lower case

  // Returns nothing if the parameter is absent.
  std::optional<std::string> find(std::string_view name) const;
};

// Returns nothing if the text is malformed or a parameter occurs twice. In quotes, \" and \\ stand
// for " and \; other backslashes are themselves, as browsers write them.
std::optional<HeaderValue> parse_header_value(std::string_view text);

}  // namespace mochi::server
