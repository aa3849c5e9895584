// The page and the description of the API, which are part of the program.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mochi::server {

struct PageFile {
  std::string_view content;
  std::string_view media_type;
  std::string entity_tag;
};

// "index.html", "app.js", "openapi.json". Returns nothing for other names.
std::optional<PageFile> find_page_file(std::string_view name);

}  // namespace mochi::server
