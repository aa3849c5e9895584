#include "job/output_files.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <charconv>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "job/output_path.h"

namespace mochi::job {
namespace {

namespace fs = std::filesystem;

// Returns the identities of a path: its location, and the file itself if it exists.
std::vector<std::string> identities_of(const fs::path& path) {
  std::error_code ignored;
  const fs::path plain = path.has_filename() ? path : path.parent_path();
  const fs::path absolute = fs::absolute(plain, ignored);  // weakly_canonical() may stay relative
  std::vector<std::string> identities{fs::weakly_canonical(absolute, ignored).string()};
  if (identities[0].empty()) identities[0] = absolute.lexically_normal();
  struct stat info{};
  if (::stat(plain.c_str(), &info) == 0) {
    identities.push_back(fmt::format("{}:{}", info.st_dev, info.st_ino));
  }
  return identities;
}

bool is_running(std::string_view pid_text) {
  pid_t pid = 0;
  const auto [end, error] =
      std::from_chars(pid_text.data(), pid_text.data() + pid_text.size(), pid);
  if (error != std::errc() || pid <= 0) return true;
  return ::kill(pid, 0) == 0 || errno == EPERM;
}

// Returns true if a running process has a temporary file for this output.
bool is_reserved(const fs::path& path) {
  const std::string start = path.filename().string() + ".part-";
  for (const fs::directory_entry& entry : fs::directory_iterator(path.parent_path())) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(start)) continue;
    const std::string rest = name.substr(start.size());
    if (is_running(std::string_view(rest).substr(0, rest.find('-')))) return true;
  }
  return false;
}

bool is_free(const fs::path& path) {
  // Checked in this order, since a run that has just ended its reservation has left a video.
  if (is_reserved(path)) return false;
  std::error_code ignored;
  for (const fs::path& file : {path, sidecar_path(path), checkpoint_path(path)}) {
    if (fs::exists(fs::symlink_status(file, ignored))) return false;
  }
  return true;
}

}  // namespace

std::string FileClaims::find(const fs::path& path) const {
  for (const std::string& identity : identities_of(path)) {
    if (const auto found = uses_.find(identity); found != uses_.end()) return found->second;
  }
  return "";
}

void FileClaims::add(const fs::path& path, const std::string& use) {
  for (const std::string& identity : identities_of(path)) uses_.emplace(identity, use);
}

ReservedName::ReservedName(const fs::path& path) : holder_(path) {
  const FileDescriptor file(
      ::open(holder_.temp_path().c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file.is_open()) fail("cannot write '{}': {}", path.string(), describe_errno(errno));
}

std::unique_ptr<ReservedName> reserve_output(const fs::path& folder, const std::string& text,
                                             std::uint64_t seed) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    fail("cannot make the folder '{}': {}", folder.string(), describe_errno(error.value()));
  // Looking and reserving are one step for all runs that choose a name in this folder. A file
  // system that cannot lock a folder leaves that to chance.
  const FileDescriptor lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock.is_open()) ::flock(lock.get(), LOCK_EX);
  for (int number = 1;; ++number) {
    const fs::path path = numbered_output_path(folder, text, seed, number);
    if (is_free(path)) return std::make_unique<ReservedName>(path);
  }
}

}  // namespace mochi::job
