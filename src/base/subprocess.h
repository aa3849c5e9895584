// Child processes fed or read through pipes, without a shell in between.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_descriptor.h"
#include "base/stop.h"

namespace mochi {

// The program's path by PATH, as the operating system looks it up.
std::optional<std::filesystem::path> find_program(std::string_view name);

struct SubprocessPipes {
  bool to_stdin = false;     // else the child reads /dev/null
  bool from_stdout = false;  // else the child writes to /dev/null
};

// The child's stderr is kept in memory for error messages. A child still alive on destruction is
// killed and reaped.
class Subprocess {
 public:
  // args[0] is the program, looked up in PATH. Throws Error when it cannot be started.
  // Calls that wait for the child, or for its reading or writing, throw Cancelled as soon as
  // should_stop returns true.
  Subprocess(std::vector<std::string> args, SubprocessPipes pipes, StopFn should_stop = {});
  ~Subprocess();

  Subprocess(const Subprocess&) = delete;
  Subprocess& operator=(const Subprocess&) = delete;

  // Blocks until all is written. Throws Error with the child's last message if the child has
  // closed its end. SIGPIPE never reaches this process.
  void write_all(std::span<const std::byte> bytes);
  // Writes as much as the pipe takes now and returns the number of bytes; 0 also if the child has
  // closed its end. Does not wait.
  std::size_t write_ready(std::span<const std::byte> bytes);
  void close_stdin();

  // Reads until `bytes` is full or the child's output ends; returns the number of bytes read.
  std::size_t read_some(std::span<std::byte> bytes);
  std::string read_all();
  // Returns what the child has written so far, at most as much as fits: 0 bytes at the end of its
  // output, nothing if it has written no more yet. Does not wait.
  std::optional<std::size_t> read_ready(std::span<std::byte> bytes);
  // Readable when the child has written something, or its output has ended; for poll().
  int stdout_descriptor() const { return stdout_.get(); }

  // Closes the pipes and waits for the end of the child. Returns its exit code, or 128 + signal.
  int wait();
  void kill() noexcept;

  // The first line that is not blank, empty if there is none: later ones complain of what followed
  // from the first.
  std::string first_stderr_line() const;
  // How a child that has ended did so: "failed (exit code 1): <its first line>", or "was killed by
  // signal 9 (Killed)".
  std::string describe_end() const;

 private:
  void remember_end(int status) noexcept;

  StopFn should_stop_;
  std::string program_;
  pid_t pid_ = -1;
  int exit_code_ = 0;
  int signal_ = 0;  // that killed it
  FileDescriptor stdin_;
  FileDescriptor stdout_;
  FileDescriptor stderr_;
};

// Runs a program to its end and returns its stdout; Error if it cannot start or exits non-zero.
std::string run_program(std::vector<std::string> args, StopFn should_stop = {});

}  // namespace mochi
