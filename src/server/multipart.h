// Bodies of forms: multipart/form-data (RFC 7578).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mochi::server {

struct FormField {
  std::string name;
  std::string value;                     // any bytes
  std::optional<std::string> file_name;  // if the part is a file; may be empty
  std::string content_type;              // as the part states it; empty: none
};

// Returns the type of a Content-Type header, "multipart/form-data", in lower case and without its
// parameters; empty if the header has no valid one.
std::string media_type_of(std::string_view content_type);

// Returns the parts of a body in their order. Throws HttpError 400.
std::vector<FormField> parse_multipart(std::string_view body, std::string_view content_type);

}  // namespace mochi::server
