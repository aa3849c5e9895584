#include "base/subprocess.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
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
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/signal_block.h"

namespace mochi {
namespace {

constexpr int kSignalExitBase = 128;

struct Pipe {
  FileDescriptor read_end;
  FileDescriptor write_end;
};

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail("cannot make a pipe: {}", describe_errno(errno));
  return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

// Only for this process: the child's end is another open file.
void set_non_blocking(const FileDescriptor& end) {
  if (::fcntl(end.get(), F_SETFL, O_NONBLOCK) != 0) {
    fail("cannot set up a pipe: {}", describe_errno(errno));
  }
}

FileDescriptor open_null(int flags) {
  FileDescriptor null_file(::open("/dev/null", flags | O_CLOEXEC));
  if (!null_file.is_open()) fail("cannot open '/dev/null': {}", describe_errno(errno));
  return null_file;
}

// Starts args[0] with the three descriptors as its standard streams; returns 0 or an errno.
int spawn(std::vector<std::string>& args, int stdin_fd, int stdout_fd, int stderr_fd, pid_t* pid) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, stdin_fd, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, stdout_fd, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, stderr_fd, STDERR_FILENO);

  // The child starts with the usual signal handling, even if this thread blocks or ignores signals.
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

Subprocess::Subprocess(std::vector<std::string> args, SubprocessPipes pipes, StopFn should_stop)
    : should_stop_(std::move(should_stop)) {
  if (args.empty()) fail("no program given to start");
  program_ = args[0];
  // A file in memory instead of a pipe: the child never blocks on it and nobody need drain it.
  stderr_ = FileDescriptor(::memfd_create("stderr", MFD_CLOEXEC));
  if (!stderr_.is_open()) fail("cannot make a memory file: {}", describe_errno(errno));

  FileDescriptor child_stdin;
  FileDescriptor child_stdout;
  if (pipes.to_stdin) {
    Pipe pipe = make_pipe();
    child_stdin = std::move(pipe.read_end);
    stdin_ = std::move(pipe.write_end);
    set_non_blocking(stdin_);
  } else {
    child_stdin = open_null(O_RDONLY);
  }
  if (pipes.from_stdout) {
    Pipe pipe = make_pipe();
    child_stdout = std::move(pipe.write_end);
    stdout_ = std::move(pipe.read_end);
    set_non_blocking(stdout_);
  } else {
    child_stdout = open_null(O_WRONLY);
  }
  const int error = spawn(args, child_stdin.get(), child_stdout.get(), stderr_.get(), &pid_);
  if (error != 0) {
    pid_ = -1;
    fail("cannot start '{}': {}", program_, describe_errno(error));
  }
}

Subprocess::~Subprocess() { kill(); }

void Subprocess::write_all(std::span<const std::byte> bytes) {
  const SignalBlock block(SIGPIPE);
  while (!bytes.empty()) {
    await_ready(stdin_.get(), POLLOUT, should_stop_);
    const ssize_t num_written = ::write(stdin_.get(), bytes.data(), bytes.size());
    if (num_written >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(num_written));
    } else if (errno == EPIPE) {
      wait();
      fail("'{}' ended early: it {}", program_, describe_end());
    } else if (errno != EINTR && errno != EAGAIN) {
      fail("cannot write to '{}': {}", program_, describe_errno(errno));
    }
  }
}

std::size_t Subprocess::write_ready(std::span<const std::byte> bytes) {
  const SignalBlock block(SIGPIPE);
  for (;;) {
    const ssize_t num_written = ::write(stdin_.get(), bytes.data(), bytes.size());
    if (num_written >= 0) return static_cast<std::size_t>(num_written);
    if (errno == EAGAIN || errno == EPIPE || errno == EBADF) return 0;
    if (errno != EINTR) fail("cannot write to '{}': {}", program_, describe_errno(errno));
  }
}

void Subprocess::close_stdin() { stdin_.close(); }

std::size_t Subprocess::read_some(std::span<std::byte> bytes) {
  std::size_t num_read = 0;
  while (num_read < bytes.size()) {
    await_ready(stdout_.get(), POLLIN, should_stop_);
    const ssize_t count = ::read(stdout_.get(), bytes.data() + num_read, bytes.size() - num_read);
    if (count == 0) break;
    if (count > 0) {
      num_read += static_cast<std::size_t>(count);
    } else if (errno != EINTR && errno != EAGAIN) {
      fail("cannot read from '{}': {}", program_, describe_errno(errno));
    }
  }
  return num_read;
}

std::optional<std::size_t> Subprocess::read_ready(std::span<std::byte> bytes) {
  for (;;) {
    const ssize_t count = ::read(stdout_.get(), bytes.data(), bytes.size());
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno == EAGAIN) return std::nullopt;
    if (errno != EINTR) fail("cannot read from '{}': {}", program_, describe_errno(errno));
  }
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
  while (pid_ > 0) {
    int status = 0;
    // Without a StopFn, nothing needs to be polled meanwhile.
    const pid_t ended = ::waitpid(pid_, &status, should_stop_ ? WNOHANG : 0);
    if (ended < 0 && errno != EINTR) {
      fail("cannot wait for '{}': {}", program_, describe_errno(errno));
    }
    if (ended > 0) {
      remember_end(status);
    } else if (should_stop_) {
      pause_between_attempts(should_stop_);
    }
  }
  return exit_code_;
}

void Subprocess::remember_end(int status) noexcept {
  pid_ = -1;
  exit_code_ = WIFSIGNALED(status) ? kSignalExitBase + WTERMSIG(status) : WEXITSTATUS(status);
  signal_ = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

void Subprocess::kill() noexcept {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  int status = SIGKILL;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  remember_end(status);
}

std::string Subprocess::describe_end() const {
  const char* const name = signal_ > 0 ? ::sigdescr_np(signal_) : nullptr;
  const std::string end = signal_ == 0 && exit_code_ == 0 ? "ended (exit code 0)"
                          : signal_ == 0 ? fmt::format("failed (exit code {})", exit_code_)
                          : name == nullptr
                              ? fmt::format("was killed by signal {}", signal_)
                              : fmt::format("was killed by signal {} ({})", signal_, name);
  const std::string line = first_stderr_line();
  return line.empty() ? end : fmt::format("{}: {}", end, line);
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

std::string run_program(std::vector<std::string> args, StopFn should_stop) {
  const std::string program = args.empty() ? "" : args[0];
  Subprocess child(std::move(args), {.from_stdout = true}, std::move(should_stop));
  std::string output = child.read_all();
  if (child.wait() != 0) fail("'{}' {}", program, child.describe_end());
  return output;
}

}  // namespace mochi
