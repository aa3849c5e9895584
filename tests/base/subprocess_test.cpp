#include "base/subprocess.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::vector<std::string> shell(const std::string& script) { return {"sh", "-c", script}; }

TEST(Subprocess, StdoutIsRead) { EXPECT_EQ(run_program({"printf", "a b\\nc"}), "a b\nc"); }

TEST(Subprocess, ArgumentsPassUnchanged) {
  EXPECT_EQ(run_program({"printf", "%s|%s", "$HOME; `x`", "two words"}), "$HOME; `x`|two words");
}

TEST(Subprocess, StdinReachesTheChild) {
  const TempFolder folder;
  const std::string text(300'000, 'x');  // more than a pipe holds
  Subprocess child({"cp", "/dev/stdin", (folder / "out").string()}, {.to_stdin = true});
  child.write_all(bytes_of(text));
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(read_text(folder / "out"), text);
}

TEST(Subprocess, ExitCodesAndSignals) {
  EXPECT_EQ(Subprocess(shell("exit 7"), {}).wait(), 7);
  EXPECT_EQ(Subprocess(shell("kill -TERM $$"), {}).wait(), 128 + SIGTERM);
}

TEST(Subprocess, WaitAgainGivesTheSameCode) {
  Subprocess child(shell("exit 3"), {});
  EXPECT_EQ(child.wait(), 3);
  EXPECT_EQ(child.wait(), 3);
}

TEST(Subprocess, KeepsTheFirstLineOfStderr) {
  Subprocess child(shell("echo >&2; echo ' first words ' >&2; echo last >&2"), {});
  child.wait();
  EXPECT_EQ(child.first_stderr_line(), "first words");
  Subprocess silent(shell("true"), {});
  silent.wait();
  EXPECT_EQ(silent.first_stderr_line(), "");
}

TEST(Subprocess, ChattyStderrDoesNotBlock) {
  Subprocess child(shell("echo begin >&2; head -c 500000 /dev/zero | tr '\\0' 'e' >&2"), {});
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(child.first_stderr_line(), "begin");
}

TEST(Subprocess, WritingToADeadChildIsAnErrorWithItsMessage) {
  Subprocess child(shell("echo 'no space left' >&2; exit 9"), {.to_stdin = true});
  const std::string block(1 << 20, 'x');
  const std::string message = message_of<Error>([&] { child.write_all(bytes_of(block)); });
  expect_contains(message, "exit code 9");
  expect_contains(message, "no space left");
}

TEST(Subprocess, ProgramMissing) {
  const auto start = [] { const Subprocess child({"no-such-program-here"}, {}); };
  const std::string message = message_of<Error>(start);
  expect_contains(message, "no-such-program-here");
  expect_contains(message, "No such file");
}

TEST(Subprocess, FailureOfRunProgramIsAnError) {
  const auto run = [] { run_program(shell("echo broken >&2; exit 2")); };
  expect_contains(message_of<Error>(run), "'sh' failed (exit code 2): broken");
}

TEST(Subprocess, ErrorsSayHowTheChildEnded) {
  const auto error_of = [](const std::string& script) {
    return message_of<Error>([&] { run_program(shell(script)); });
  };
  EXPECT_EQ(error_of("kill -KILL $$"), "'sh' was killed by signal 9 (Killed)");
  EXPECT_EQ(error_of("echo words >&2; kill -TERM $$"),
            "'sh' was killed by signal 15 (Terminated): words");
  EXPECT_EQ(error_of("exit 3"), "'sh' failed (exit code 3)");
  // Not a signal, though its number is that of one that a shell reports.
  EXPECT_EQ(error_of("exit 137"), "'sh' failed (exit code 137)");
}

TEST(Subprocess, WritingToAChildThatClosedItsEndSaysSo) {
  Subprocess child(shell("exit 0"), {.to_stdin = true});
  const std::string block(1 << 20, 'x');
  EXPECT_EQ(message_of<Error>([&] { child.write_all(bytes_of(block)); }),
            "'sh' ended early: it ended (exit code 0)");
}

TEST(Subprocess, DestructionEndsTheChild) {
  pid_t pid = 0;
  {
    Subprocess child(shell("echo $$; exec sleep 1000"), {.from_stdout = true});
    std::string line(1, ' ');
    std::string digits;
    while (child.read_some(std::as_writable_bytes(std::span(line))) == 1 && line != "\n") {
      digits += line;
    }
    pid = std::stoi(digits);
    EXPECT_EQ(::kill(pid, 0), 0);
  }
  EXPECT_NE(::kill(pid, 0), 0);
}

TEST(Subprocess, SecondChildDoesNotHoldTheFirstOnesPipe) {
  Subprocess first({"cat"}, {.to_stdin = true, .from_stdout = true});
  const Subprocess second({"sleep", "1000"}, {});
  first.write_all(bytes_of("text"));
  first.close_stdin();
  EXPECT_EQ(first.read_all(), "text");  // would wait for ever
}

TEST(FindProgram, LooksIntoPath) {
  ASSERT_TRUE(find_program("sh").has_value());
  EXPECT_TRUE(find_program("sh")->is_absolute());
  EXPECT_FALSE(find_program("no-such-program-here").has_value());
  EXPECT_EQ(find_program(find_program("sh")->string()), find_program("sh"));
}

TEST(FindProgram, EmptyPathFindsNothing) {
  const std::string old_path = std::getenv("PATH");
  ::setenv("PATH", "", 1);
  const auto found = find_program("sh");
  ::setenv("PATH", old_path.c_str(), 1);
  EXPECT_FALSE(found.has_value());
}

}  // namespace
}  // namespace mochi
