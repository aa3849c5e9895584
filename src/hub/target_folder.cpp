#include "hub/target_folder.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/error.h"
#include "hub/part_file.h"

namespace mochi::hub {
namespace {

namespace fs = std::filesystem;

// A link without a target is an entry, too: no folder can be created under its name.
bool has_entry(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

// Returns "." for a name without a folder.
fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// Returns those of the path and the folders above it that do not exist, the innermost first.
std::vector<fs::path> missing_folders(fs::path path) {
  std::vector<fs::path> missing;
  for (; !has_entry(path) && path != parent_of(path); path = parent_of(path)) {
    missing.push_back(path);
  }
  return missing;
}

fs::path nearest_existing(const fs::path& path) {
  const std::vector<fs::path> missing = missing_folders(path);
  return missing.empty() ? path : parent_of(missing.back());
}

}  // namespace

void create_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error) return;
  fail("cannot create the folder '{}': {}", folder.string(), describe_errno(error.value()));
}

void check_target_folder(const fs::path& folder) {
  for (const fs::path& path : {folder, folder / kStateFolder}) {
    const fs::path existing = nearest_existing(path);
    std::error_code ignored;
    if (!fs::is_directory(existing, ignored)) {
      fail("cannot download into '{}': '{}' is not a folder", folder.string(), existing.string());
    }
    if (::access(existing.c_str(), W_OK | X_OK) != 0) {
      fail("cannot download into '{}': folder '{}' is not writable: {}", folder.string(),
           existing.string(), describe_errno(errno));
    }
  }
}

std::uint64_t free_space(const fs::path& folder) {
  const fs::path existing = nearest_existing(folder);
  struct statvfs facts{};
  if (::statvfs(existing.c_str(), &facts) != 0) {
    fail("cannot read the free space of '{}': {}", existing.string(), describe_errno(errno));
  }
  return static_cast<std::uint64_t>(facts.f_bavail) * facts.f_frsize;
}

TargetFolder::TargetFolder(const fs::path& folder) {
  check_target_folder(folder);
  const fs::path state = folder / kStateFolder;
  created_ = missing_folders(state);
  try {
    create_folder(state);
  } catch (const Error&) {
    remove_empty();
    throw;
  }
}

TargetFolder::~TargetFolder() { remove_empty(); }

void TargetFolder::remove_empty() noexcept {
  for (const fs::path& path : created_) ::rmdir(path.c_str());
}

}  // namespace mochi::hub
