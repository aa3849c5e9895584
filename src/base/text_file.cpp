#include "base/text_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/file_target.h"

namespace mochi {
namespace {

[[noreturn]] void fail_reading(const std::filesystem::path& path) {
  fail("cannot read '{}': {}", path.string(), describe_errno(errno));
}

[[noreturn]] void fail_size(const std::filesystem::path& path, std::size_t max_bytes) {
  fail("cannot read '{}': wanted a text file of at most {} bytes, found more", path.string(),
       max_bytes);
}

FileDescriptor open_text(const std::filesystem::path& path, std::size_t max_bytes) {
  // Without O_NONBLOCK a named pipe would hold open() until somebody writes to it.
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open()) fail("cannot read '{}': {}", path.string(), explain_open(path, errno));
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) fail_reading(path);
  if (S_ISDIR(status.st_mode) || S_ISBLK(status.st_mode)) {
    fail("cannot read '{}': is {}", path.string(), describe_file_kind(status.st_mode));
  }
  if (S_ISREG(status.st_mode) && static_cast<std::size_t>(status.st_size) > max_bytes) {
    fail_size(path, max_bytes);
  }
  return file;
}

}  // namespace

std::string read_text_file(const std::filesystem::path& path, std::size_t max_bytes,
                           const StopFn& should_stop) {
  constexpr std::size_t kBlockBytes = 1 << 16;
  const FileDescriptor file = open_text(path, max_bytes);
  std::string text;
  for (;;) {
    await_ready(file.get(), POLLIN, should_stop);
    const std::size_t old_size = text.size();
    text.resize(old_size + kBlockBytes);
    const ssize_t num_read = ::read(file.get(), text.data() + old_size, kBlockBytes);
    if (num_read < 0 && errno != EINTR && errno != EAGAIN) fail_reading(path);
    text.resize(old_size + static_cast<std::size_t>(std::max<ssize_t>(num_read, 0)));
    if (text.size() > max_bytes) fail_size(path, max_bytes);
    if (num_read == 0) break;
  }
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  return text;
}

}  // namespace mochi
