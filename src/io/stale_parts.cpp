#include "io/stale_parts.h"

#include <sys/types.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <string>
#include <string_view>
#include <system_error>

namespace mochi {
namespace {

namespace fs = std::filesystem;

// The process in a name such as "clip.mp4.part-15001-4"; 0 if it is no name of a part.
pid_t owner_of(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return 0;
  const char* const end = name.data() + name.size();
  pid_t owner = 0;
  const auto [dash, error] = std::from_chars(name.data() + prefix.size(), end, owner);
  if (error != std::errc() || dash == end || *dash != '-') return 0;
  unsigned number = 0;
  const auto [rest, number_error] = std::from_chars(dash + 1, end, number);
  return number_error == std::errc() && rest == end ? owner : 0;
}

bool is_gone(pid_t process) { return ::kill(process, 0) != 0 && errno == ESRCH; }

}  // namespace

void remove_stale_parts(const fs::path& path) {
  const fs::path output = path.has_filename() ? path : path.parent_path();
  const fs::path folder = output.has_parent_path() ? output.parent_path() : fs::path(".");
  const std::string prefix = output.filename().string() + ".part-";
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const pid_t owner = owner_of(entry->path().filename().string(), prefix);
    std::error_code ignored;
    if (owner > 0 && is_gone(owner)) fs::remove_all(entry->path(), ignored);
  }
}

}  // namespace mochi
