#include "base/file_target.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>

#include "base/error.h"

namespace mochi {

namespace fs = std::filesystem;

const char* describe_file_kind(mode_t mode) {
  if (S_ISREG(mode)) return "a regular file";
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a named pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

std::string explain_open(const fs::path& path, int code) {
  std::error_code error;
  if (code == ENOENT && fs::is_symlink(path, error)) {
    return fmt::format("it is a link to '{}', which does not exist",
                       fs::read_symlink(path, error).string());
  }
  if (code == ENXIO && fs::is_socket(path, error)) return "it is a socket";
  return describe_errno(code);
}

fs::path canonical_target(const fs::path& path) {
  constexpr int kMaxLinks = 40;  // as the kernel has it
  // "a/b/" names the folder b.
  fs::path target = path.has_filename() || path == path.root_path() ? path : path.parent_path();
  std::error_code error;
  // weakly_canonical() alone does not follow a link whose target does not exist yet.
  for (int i = 0; i < kMaxLinks && fs::is_symlink(target, error); ++i) {
    const fs::path next = fs::read_symlink(target, error);
    if (error) break;
    target = target.parent_path() / next;
  }
  const fs::path absolute = fs::absolute(target, error);
  fs::path result = fs::weakly_canonical(absolute, error);
  if (error) result = absolute.lexically_normal();
  return result;
}

bool same_file(const fs::path& a, const fs::path& b) {
  std::error_code error;
  return fs::equivalent(a, b, error) || canonical_target(a) == canonical_target(b);
}

}  // namespace mochi
