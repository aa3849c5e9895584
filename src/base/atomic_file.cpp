#include "base/atomic_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file_target.h"
#include "base/signal_block.h"

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

constexpr std::string_view kPart = ".part-";

fs::path make_temp_path(const fs::path& path) {
  // The number keeps two writers of one process apart.
  static std::atomic<unsigned> s_counter{0};
  fs::path temp = path;
  temp += fmt::format("{}{}-{}", kPart, ::getpid(), s_counter.fetch_add(1));
  return temp;
}

// The temporary names in use, where a signal handler finds them. Those that find no room are only
// not removed by it.
constexpr std::size_t kMaxParts = 64;
std::array<std::atomic<const char*>, kMaxParts> s_parts{};
static_assert(std::atomic<const char*>::is_always_lock_free, "read in a signal handler");

void replace_part(const char* old_name, const char* new_name) noexcept {
  for (std::atomic<const char*>& part : s_parts) {
    const char* expected = old_name;
    if (part.compare_exchange_strong(expected, new_name)) return;
  }
}

// Returns true if `rest`, the part of a name after ".part-", is the number of a process that no
// longer runs, "-" and another number.
bool is_abandoned(std::string_view rest) {
  pid_t pid = 0;
  const char* const begin = rest.data();
  const char* const end = begin + rest.size();
  const auto [dash, error] = std::from_chars(begin, end, pid);
  if (error != std::errc() || pid <= 0 || dash == end || *dash != '-') return false;
  if (dash + 1 == end || !std::all_of(dash + 1, end, [](char c) { return c >= '0' && c <= '9'; })) {
    return false;
  }
  return ::kill(pid, 0) != 0 && errno == ESRCH;
}

// A process on another machine that shares the folder holds a lock on what it writes.
bool is_locked(const fs::path& file) {
  const FileDescriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  return opened.is_open() && ::flock(opened.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

// Files that cannot be removed are left where they are: they do no harm.
void remove_abandoned_parts(const fs::path& target) try {
  const std::string start = target.filename().string() + std::string(kPart);
  const fs::path folder = folder_of(target);
  // Not a directory_iterator, which ends the program where there is no memory for it.
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), ::closedir);
  if (entries == nullptr) return;
  std::vector<fs::path> abandoned;
  while (const dirent* const entry = ::readdir(entries.get())) {  // NOLINT: of this thread alone
    const std::string_view name = entry->d_name;
    if (!name.starts_with(start) || !is_abandoned(name.substr(start.size()))) continue;
    if (!is_locked(folder / name)) abandoned.push_back(folder / name);
  }
  std::error_code ignored;
  for (const fs::path& path : abandoned) fs::remove_all(path, ignored);
} catch (const std::bad_alloc&) {  // NOLINT(bugprone-empty-catch): the output itself is written
}

// Returns the type of the path's target, following links; 0 if nothing exists there.
mode_t mode_of(const fs::path& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 ? status.st_mode : 0;
}

bool is_special(mode_t mode) { return mode != 0 && !S_ISREG(mode) && !S_ISDIR(mode); }

// Returns true for /dev/stdout, /dev/fd/3 and the like, connected to anything.
bool is_own_descriptor(const fs::path& path) {
  std::error_code error;
  fs::path link = path;
  constexpr int kMaxLinks = 40;
  for (int i = 0; i < kMaxLinks && fs::is_symlink(link, error); ++i) {
    const std::string folder = fs::weakly_canonical(folder_of(link), error).string();
    if (folder.starts_with("/proc/") && folder.ends_with("/fd")) return true;
    link = link.parent_path() / fs::read_symlink(link, error);
  }
  return false;
}

void check_folder(const fs::path& path, const fs::path& folder) {
  std::error_code ignored;
  if (!fs::exists(folder, ignored)) {
    fail("cannot write '{}': folder '{}' does not exist", path.string(), folder.string());
  }
  if (!fs::is_directory(folder, ignored)) {
    fail("cannot write '{}': '{}' is not a folder", path.string(), folder.string());
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    fail("cannot write '{}': folder '{}' is not writable: {}", path.string(), folder.string(),
         describe_errno(errno));
  }
}

void write_all(int descriptor, std::span<const std::byte> bytes, const fs::path& path,
               const StopFn& should_stop) {
  const SignalBlock no_file_size_signal(SIGXFSZ);
  const SignalBlock no_pipe_signal(SIGPIPE);
  while (!bytes.empty()) {
    const ssize_t num_written = ::write(descriptor, bytes.data(), bytes.size());
    if (num_written >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(num_written));
    } else if (errno == EAGAIN) {
      await_ready(descriptor, POLLOUT, should_stop);
    } else if (errno != EINTR) {
      fail("cannot write '{}': {}", path.string(), describe_errno(errno));
    }
  }
}

FileDescriptor create(const fs::path& name, const fs::path& shown) {
  constexpr mode_t kMode = 0666;  // less the umask
  FileDescriptor file(::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kMode));
  if (!file.is_open()) fail("cannot write '{}': {}", shown.string(), describe_errno(errno));
  return file;
}

void sync_to_disk(const fs::path& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) fail("cannot open '{}': {}", path.string(), describe_errno(errno));
  // Some file systems cannot sync a folder (EINVAL): the rename is then as safe as it gets.
  if (::fsync(file.get()) != 0 && errno != EINVAL) {
    fail("cannot write '{}' to disk: {}", path.string(), describe_errno(errno));
  }
}

// A file, or a folder with all that it holds.
void sync_tree_to_disk(const fs::path& path) {
  if (fs::is_directory(path)) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(path)) {
      sync_to_disk(entry.path());
    }
  }
  sync_to_disk(path);
}

}  // namespace

AtomicPath::AtomicPath(const fs::path& path)
    : path_(without_trailing_slash(path)),
      target_(canonical_target(path_)),
      temp_path_(make_temp_path(target_)) {
  if (!path_.has_filename()) fail("cannot write '{}': not a file name", path_.string());
  std::error_code ignored;
  check_folder(path_, folder_of(fs::is_symlink(path_, ignored) ? target_ : path_));
  const mode_t mode = mode_of(path_);
  if (is_special(mode) || is_own_descriptor(path_)) {
    fail("cannot write '{}': is {}, and a regular file is wanted", path_.string(),
         describe_file_kind(mode));
  }
  replace_part(nullptr, temp_path_.c_str());
}

AtomicPath::~AtomicPath() {
  replace_part(temp_path_.c_str(), nullptr);
  if (is_committed_ || ::unlink(temp_path_.c_str()) == 0 || errno == ENOENT) return;
  try {
    fs::remove_all(temp_path_);
    // It stays until the output is written again. A lack of memory must not end the program here.
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
  }
}

void AtomicPath::commit() {
  if (is_committed_) fail("'{}' is already committed", path_.string());
  sync_tree_to_disk(temp_path_);
  std::error_code error;
  fs::rename(temp_path_, target_, error);
  if (error)
    fail("cannot rename '{}' to '{}': {}", temp_path_.string(), path_.string(),
         describe_errno(error.value()));
  is_committed_ = true;
  sync_to_disk(folder_of(target_));
  remove_abandoned_parts(target_);
}

void AtomicPath::commit_over_folder() {
  if (!fs::exists(target_)) return commit();
  sync_tree_to_disk(temp_path_);
  // The two change places, so that there is a whole folder of that name at every moment. The old
  // one is then removed like an uncommitted one.
  if (::renameat2(AT_FDCWD, temp_path_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0) {
    sync_to_disk(folder_of(target_));
    remove_abandoned_parts(target_);
    return;
  }
  if (errno != EINVAL && errno != ENOSYS) {
    fail("cannot rename '{}' to '{}': {}", temp_path_.string(), path_.string(),
         describe_errno(errno));
  }
  const AtomicPath aside(path_);
  fs::rename(target_, aside.temp_path());
  try {
    commit();
  } catch (const Error&) {
    fs::rename(aside.temp_path(), target_);
    throw;
  }
}

AtomicFile::AtomicFile(const fs::path& path, SpecialFile special, StopFn should_stop)
    : path_(path), should_stop_(std::move(should_stop)) {
  const mode_t mode = mode_of(path);
  const bool is_stream = S_ISFIFO(mode) || S_ISCHR(mode) || is_own_descriptor(path);
  if (is_stream && special == SpecialFile::kWriteThrough) {
    if (::access(path.c_str(), W_OK) != 0) {
      fail("cannot write '{}': {}", path.string(), describe_errno(errno));
    }
    return;
  }
  const fs::path plain = without_trailing_slash(path);
  if (S_ISDIR(mode) && plain.has_filename()) {
    fail("cannot write '{}': is a folder", plain.string());
  }
  target_.emplace(path);
  file_ = create(target_->temp_path(), path);
  // Other machines that share the folder see by the lock that this part is in use. A file system
  // without locks goes without.
  ::flock(file_.get(), LOCK_EX | LOCK_NB);
}

const fs::path& AtomicFile::temp_path() const {
  if (!target_) fail("'{}' is written to directly", path_.string());
  return target_->temp_path();
}

void AtomicFile::open_special() {
  for (;;) {
    file_ = FileDescriptor(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK));
    if (file_.is_open()) return;
    // Nobody reads the named pipe yet.
    if (errno != ENXIO && errno != EINTR) {
      fail("cannot write '{}': {}", path_.string(), describe_errno(errno));
    }
    pause_between_attempts(should_stop_);
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (!file_.is_open()) open_special();
  write_all(file_.get(), bytes, path_, should_stop_);
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::commit() {
  file_.close();
  if (target_) target_->commit();
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

void write_new_file(const fs::path& path, std::string_view content, const fs::path& shown) {
  const FileDescriptor file = create(path, shown);
  write_all(file.get(), std::as_bytes(std::span(content.data(), content.size())), shown, {});
}

void remove_parts_at_exit() noexcept {
  for (const std::atomic<const char*>& part : s_parts) {
    const char* const name = part;
    if (name != nullptr) ::unlink(name);
  }
}

}  // namespace mochi
