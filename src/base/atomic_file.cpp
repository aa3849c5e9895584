#include "base/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

#include "base/error.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

// "a/b/" names the folder b: without the slash, filename() and parent_path() mean the same thing.
fs::path without_trailing_slash(const fs::path& path) {
  return path.has_filename() || path == path.root_path() ? path : path.parent_path();
}

fs::path folder_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

fs::path make_temp_path(const fs::path& path) {
  // The number keeps two writers of one process apart.
  static std::atomic<unsigned> s_counter{0};
  fs::path temp = path;
  temp += fmt::format(".part-{}-{}", ::getpid(), s_counter.fetch_add(1));
  return temp;
}

void sync_to_disk(const fs::path& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) fail("cannot open '{}': {}", path.string(), std::strerror(errno));
  // Some file systems cannot sync a folder (EINVAL): the rename is then as safe as it gets.
  if (::fsync(file.get()) != 0 && errno != EINVAL) {
    fail("cannot write '{}' to disk: {}", path.string(), std::strerror(errno));
  }
}

}  // namespace

AtomicPath::AtomicPath(const fs::path& path)
    : path_(without_trailing_slash(path)), temp_path_(make_temp_path(path_)) {
  if (!path_.has_filename()) fail("cannot write '{}': not a file name", path_.string());
  const fs::path folder = folder_of(path_);
  std::error_code ignored;
  if (!fs::exists(folder, ignored)) {
    fail("cannot write '{}': folder '{}' does not exist", path_.string(), folder.string());
  }
  if (!fs::is_directory(folder, ignored)) {
    fail("cannot write '{}': '{}' is not a folder", path_.string(), folder.string());
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    fail("cannot write '{}': folder '{}' is not writable: {}", path_.string(), folder.string(),
         std::strerror(errno));
  }
}

AtomicPath::~AtomicPath() {
  if (is_committed_) return;
  std::error_code ignored;
  fs::remove_all(temp_path_, ignored);
}

void AtomicPath::commit() {
  if (is_committed_) fail("'{}' is already committed", path_.string());
  if (fs::is_directory(temp_path_)) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(temp_path_)) {
      sync_to_disk(entry.path());
    }
  }
  sync_to_disk(temp_path_);
  std::error_code error;
  fs::rename(temp_path_, path_, error);
  if (error)
    fail("cannot rename '{}' to '{}': {}", temp_path_.string(), path_.string(), error.message());
  is_committed_ = true;
  sync_to_disk(folder_of(path_));
}

void AtomicPath::commit_over_folder() {
  if (!fs::exists(path_)) return commit();
  const AtomicPath aside(path_);
  fs::rename(path_, aside.temp_path());
  try {
    commit();
  } catch (const Error&) {
    fs::rename(aside.temp_path(), path_);
    throw;
  }
}

AtomicFile::AtomicFile(const fs::path& path) : target_(path) {
  std::error_code ignored;
  if (fs::is_directory(target_.path(), ignored)) {
    fail("cannot write '{}': is a directory", target_.path().string());
  }
  constexpr mode_t kMode = 0666;  // less the umask
  const char* temp_name = target_.temp_path().c_str();
  file_ = FileDescriptor(::open(temp_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kMode));
  if (!file_.is_open()) {
    fail("cannot write '{}': {}", target_.path().string(), std::strerror(errno));
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t num_written = ::write(file_.get(), bytes.data(), bytes.size());
    if (num_written < 0) {
      if (errno == EINTR) continue;
      fail("cannot write '{}': {}", target_.path().string(), std::strerror(errno));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(num_written));
  }
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::commit() {
  file_.close();
  target_.commit();
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

}  // namespace mochi
