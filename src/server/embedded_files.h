// Files that the build has put into the program (cmake/embed.cmake).
#pragma once

#include <span>
#include <string_view>

namespace mochi::server {

struct EmbeddedFile {
  std::string_view name;  // without folder
  std::string_view content;
};

std::span<const EmbeddedFile> embedded_files();

}  // namespace mochi::server
