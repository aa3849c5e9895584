#include "cli/terminal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <string>

#include "base/error.h"

namespace mochi::cli {
namespace {

// Runs the body in a separate process, whose exit status it returns.
template <typename Body>
int in_child(const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Returns the text that the body writes to the descriptor.
template <typename Body>
std::string written_to(int descriptor, const Body& body) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) return "no pipe";
  const int status = in_child([&] {
    ::dup2(ends[1], descriptor);
    body();
    return 0;
  });
  ::close(ends[1]);
  std::array<char, 4096> text{};
  const ssize_t num_read = ::read(ends[0], text.data(), text.size());
  ::close(ends[0]);
  return status == 0 ? std::string(text.data(), static_cast<std::size_t>(num_read)) : "failed";
}

// 0 where a line on standard error is survived and one on standard output is an error.
int check_lost_streams() {
  secure_standard_streams();
  tell("only {}", "told");
  tell_summary("only {}", "told");
  try {
    print_line("asked for");
  } catch (const Error&) {
    return 0;
  }
  return 1;
}

TEST(Terminal, ClosedStreamsEndNoRun) {
  EXPECT_EQ(in_child([] {
              ::close(STDOUT_FILENO);
              ::close(STDERR_FILENO);
              return check_lost_streams();
            }),
            0);
}

TEST(Terminal, FullStreamsEndNoRun) {
  EXPECT_EQ(in_child([] {
              const int full = ::open("/dev/full", O_WRONLY);
              ::dup2(full, STDOUT_FILENO);
              ::dup2(full, STDERR_FILENO);
              return check_lost_streams();
            }),
            0);
}

TEST(Terminal, PipesWithoutReadersEndNoRun) {
  EXPECT_EQ(in_child([] {
              std::array<int, 2> ends{};
              if (::pipe(ends.data()) != 0) return 2;
              ::close(ends[0]);
              ::dup2(ends[1], STDOUT_FILENO);
              ::dup2(ends[1], STDERR_FILENO);
              return check_lost_streams();
            }),
            0);
}

TEST(Terminal, FilesNeverBecomeStandardStreams) {
  EXPECT_EQ(in_child([] {
              for (const int descriptor : {0, 1, 2}) ::close(descriptor);
              secure_standard_streams();
              return ::dup(0) > 2 ? 0 : 1;
            }),
            0);
}

TEST(Terminal, ClosedOutputIsFoundBeforeTheWork) {
  EXPECT_EQ(in_child([] {
              ::close(STDOUT_FILENO);
              secure_standard_streams();
              try {
                check_standard_output();
              } catch (const Error&) {
                return 0;
              }
              return 1;
            }),
            0);
  EXPECT_NO_THROW(check_standard_output());
}

TEST(Terminal, LinesArePrintable) {
  EXPECT_EQ(written_to(STDERR_FILENO, [] { tell("a {}", "\x1b[31m\n\xff"); }),
            "a \\x1b[31m\\x0a\\xff\n");
  EXPECT_EQ(written_to(STDOUT_FILENO, [] { tell_summary("a {}", "\x07"); }), "a \\x07\n");
  EXPECT_EQ(written_to(STDOUT_FILENO, [] { print_line("a {}", "\x07"); }), "a \\x07\n");
  EXPECT_EQ(written_to(STDOUT_FILENO, [] { print_result("{\n}\n"); }), "{\n}\n");
}

}  // namespace
}  // namespace mochi::cli
