#include "server/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "server/digest.h"
#include "server/embedded_files.h"

namespace mochi::server {
namespace {

constexpr std::array kMediaTypes{
    std::pair<std::string_view, std::string_view>{".html", "text/html; charset=utf-8"},
    std::pair<std::string_view, std::string_view>{".js", "text/javascript; charset=utf-8"},
    std::pair<std::string_view, std::string_view>{".css", "text/css; charset=utf-8"},
    std::pair<std::string_view, std::string_view>{".svg", "image/svg+xml"},
    std::pair<std::string_view, std::string_view>{".json", "application/json"},
};

std::string_view media_type_for(std::string_view name) {
  for (const auto& [ending, type] : kMediaTypes) {
    if (name.ends_with(ending)) return type;
  }
  return "application/octet-stream";
}

}  // namespace

std::optional<PageFile> find_page_file(std::string_view name) {
  for (const EmbeddedFile& file : embedded_files()) {
    if (file.name != name) continue;
    return PageFile{.content = file.content,
                    .media_type = media_type_for(name),
                    .entity_tag = fmt::format("\"{}\"", sha256_hex(file.content).substr(0, 16))};
  }
  return std::nullopt;
}

}  // namespace mochi::server
