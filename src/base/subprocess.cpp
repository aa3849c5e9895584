#include "base/subprocess.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace mochi {
namespace {

constexpr int kSignalExitBase = 128;

// While it lives, a write to a closed pipe gives EPIPE in this thread instead of ending the
// process; a SIGPIPE that was raised meanwhile is swallowed.
class SigpipeBlock {
 public:
  SigpipeBlock() {
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    sigemptyset(&sigpipe_);
    sigaddset(&sigpipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe_, &old_mask_);
  }
  ~SigpipeBlock() {
    if (!was_pending_) {
      const timespec no_wait{};
      while (sigtimedwait(&sigpipe_, nullptr, &no_wait) == -1 && errno == EINTR) {
      }
    }
    pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
  }
  SigpipeBlock(const SigpipeBlock&) = delete;
  SigpipeBlock& operator=(const SigpipeBlock&) = delete;

 private:
  sigset_t sigpipe_{};
  sigset_t old_mask_{};
  bool was_pending_ = false;
};

struct Pipe {
  FileDescriptor read_end;
  FileDescriptor write_end;
};

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail("cannot make a pipe: {}", std::strerror(errno));
  return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

FileDescriptor open_null(int flags) {
  FileDescriptor null_file(::open("/dev/null", flags | O_CLOEXEC));
  if (!null_file.is_open()) fail("cannot open '/dev/null': {}", std::strerror(errno));
  return null_file;
}

// Starts args[0] with the three descriptors as its standard streams; returns 0 or an errno.
int spawn(std::vector<std::string>& args, int stdin_fd, int stdout_fd, int stderr_fd, pid_t* pid) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, stdin_fd, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, stdout_fd, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, stderr_fd, STDERR_FILENO);

  // The child starts with the usual signal handling whatever this thread has blocked or ignored.
  sigset_t none;
  sigemptyset(&none);
  sigset_t sigpipe;
  sigemptyset(&sigpipe);
  sigaddset(&sigpipe, SIGPIPE);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &sigpipe);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  std::vector<char*> argv;
  argv.reserve(args.size() + 1);
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  const int error = ::posix_spawnp(pid, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

}  // namespace

std::optional<std::filesystem::path> find_program(std::string_view name) {
  const auto is_program = [](const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::is_regular_file(path, ignored) && ::access(path.c_str(), X_OK) == 0;
  };
  if (name.find('/') != std::string_view::npos) {
    return is_program(name) ? std::optional<std::filesystem::path>(name) : std::nullopt;
  }
  const char* variable = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): never set here
  std::string_view folders = variable == nullptr ? "" : variable;
  while (!folders.empty()) {
    const std::size_t end = std::min(folders.find(':'), folders.size());
    std::filesystem::path path = std::filesystem::path(folders.substr(0, end)) / name;
    if (is_program(path)) return path;
    folders.remove_prefix(std::min(end + 1, folders.size()));
  }
  return std::nullopt;
}

Subprocess::Subprocess(std::vector<std::string> args, SubprocessPipes pipes) {
  if (args.empty()) fail("no program given to start");
  program_ = args[0];
  // A file in memory instead of a pipe: the child never blocks on it and nobody need drain it.
  stderr_ = FileDescriptor(::memfd_create("stderr", MFD_CLOEXEC));
  if (!stderr_.is_open()) fail("cannot make a memory file: {}", std::strerror(errno));

  FileDescriptor child_stdin;
  FileDescriptor child_stdout;
  if (pipes.to_stdin) {
    Pipe pipe = make_pipe();
    child_stdin = std::move(pipe.read_end);
    stdin_ = std::move(pipe.write_end);
  } else {
    child_stdin = open_null(O_RDONLY);
  }
  if (pipes.from_stdout) {
    Pipe pipe = make_pipe();
    child_stdout = std::move(pipe.write_end);
    stdout_ = std::move(pipe.read_end);
  } else {
    child_stdout = open_null(O_WRONLY);
  }
  const int error = spawn(args, child_stdin.get(), child_stdout.get(), stderr_.get(), &pid_);
  if (error != 0) {
    pid_ = -1;
    fail("cannot start '{}': {}", program_, std::strerror(error));
  }
}

Subprocess::~Subprocess() {
  if (pid_ > 0) kill();
}

void Subprocess::write_all(std::span<const std::byte> bytes) {
  const SigpipeBlock block;
  while (!bytes.empty()) {
    const ssize_t num_written = ::write(stdin_.get(), bytes.data(), bytes.size());
    if (num_written >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(num_written));
    } else if (errno == EPIPE) {
      const int exit_code = wait();
      fail("'{}' ended early (exit code {}): {}", program_, exit_code, first_stderr_line());
    } else if (errno != EINTR) {
      fail("cannot write to '{}': {}", program_, std::strerror(errno));
    }
  }
}

void Subprocess::close_stdin() { stdin_.close(); }

std::size_t Subprocess::read_some(std::span<std::byte> bytes) {
  std::size_t num_read = 0;
  while (num_read < bytes.size()) {
    const ssize_t count = ::read(stdout_.get(), bytes.data() + num_read, bytes.size() - num_read);
    if (count == 0) break;
    if (count > 0) {
      num_read += static_cast<std::size_t>(count);
    } else if (errno != EINTR) {
      fail("cannot read from '{}': {}", program_, std::strerror(errno));
    }
  }
  return num_read;
}

std::string Subprocess::read_all() {
  constexpr std::size_t kBlockBytes = 1 << 16;
  std::string text;
  for (;;) {
    const std::size_t old_size = text.size();
    text.resize(old_size + kBlockBytes);
    const std::size_t num_read =
        read_some(std::as_writable_bytes(std::span(text).subspan(old_size)));
    text.resize(old_size + num_read);
    if (num_read < kBlockBytes) return text;
  }
}

int Subprocess::wait() {
  stdin_.close();
  stdout_.close();
  if (pid_ <= 0) return exit_code_;
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0) {
    if (errno != EINTR) fail("cannot wait for '{}': {}", program_, std::strerror(errno));
  }
  pid_ = -1;
  exit_code_ = WIFSIGNALED(status) ? kSignalExitBase + WTERMSIG(status) : WEXITSTATUS(status);
  return exit_code_;
}

void Subprocess::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  exit_code_ = kSignalExitBase + SIGKILL;
}

std::string Subprocess::first_stderr_line() const {
  constexpr std::size_t kMaxHead = 4096;
  std::string head(kMaxHead, '\0');  // not read(): the child writes at the same file offset
  const ssize_t num_read = ::pread(stderr_.get(), head.data(), head.size(), 0);
  head.resize(static_cast<std::size_t>(std::max<ssize_t>(0, num_read)));
  const std::size_t begin = head.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "";
  const std::string line = head.substr(begin, head.find_first_of("\r\n", begin) - begin);
  return line.substr(0, line.find_last_not_of(" \t") + 1);
}

std::string run_program(std::vector<std::string> args) {
  const std::string program = args.empty() ? "" : args[0];
  Subprocess child(std::move(args), {.from_stdout = true});
  std::string output = child.read_all();
  const int exit_code = child.wait();
  if (exit_code != 0) {
    fail("'{}' failed (exit code {}): {}", program, exit_code, child.first_stderr_line());
  }
  return output;
}

}  // namespace mochi
