#include "cli/interrupt.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <string>

#include "base/atomic_file.h"
#include "base/mapped_file.h"
#include "base/temp_folder.h"
namespace mochi::cli {
namespace {

struct End {
  int status = 0;    // as waitpid() gives it
  std::string said;  // on standard error
};

// Runs the body in a separate process, whose handlers are installed.
template <typename Body>
End run_in_child(const Body& body) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) return {};
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    install_interrupt_handlers();
    ::_exit(body());
  }
  ::close(ends[1]);
  End end;
  std::array<char, 256> block{};
  for (ssize_t count = 0; (count = ::read(ends[0], block.data(), block.size())) > 0;) {
    end.said.append(block.data(), static_cast<std::size_t>(count));
  }
  ::close(ends[0]);
  ::waitpid(child, &end.status, 0);
  return end;
}

TEST(Interrupt, FirstSignalIsAnsweredAtOnceAndRemembered) {
  const End end = run_in_child([] {
    set_activity(Activity::kSampling);
    ::raise(SIGTERM);
    pollfd watched{interrupt_descriptor(), POLLIN, 0};
    return interrupt_signal() == SIGTERM && ::poll(&watched, 1, 0) == 1 ? 0 : 1;
  });
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(end.said, "\nstopping after this step; press Ctrl-C again to quit at once\n");
}

TEST(Interrupt, AQuietProgramPrintsNothing) {
  const End end = run_in_child([] { return ::raise(SIGINT); });
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(end.said, "");
}

TEST(Interrupt, AnySecondSignalEndsTheProgramAndItsHalfWrittenFiles) {
  for (const int second : {SIGINT, SIGTERM}) {
    const TempFolder folder;
    const End end = run_in_child([second, &folder] {
      const AtomicFile file(folder / "out");
      ::raise(SIGINT);
      if (folder.num_entries() != 1) return 1;
      ::raise(second);
      return 0;
    });
    EXPECT_TRUE(WIFSIGNALED(end.status) && WTERMSIG(end.status) == second);
    EXPECT_EQ(folder.num_entries(), 0U);
  }
}

TEST(Interrupt, BlockedReadsEnd) {
  const End end = run_in_child([] {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) return 2;
    ::alarm(10);  // ends the process if the read goes on
    const pid_t reader = ::getpid();
    const pid_t sender = ::fork();
    if (sender == 0) {
      constexpr unsigned kPollMs = 50;
      for (int i = 0; i < 3; ++i) {
        ::poll(nullptr, 0, kPollMs);
        if (i == 1) ::kill(reader, SIGINT);
      }
      ::_exit(0);
    }
    char byte = 0;
    const ssize_t count = ::read(ends[0], &byte, 1);
    const bool was_interrupted = count < 0 && errno == EINTR;
    ::waitpid(sender, nullptr, 0);
    return was_interrupted ? 0 : 1;
  });
  EXPECT_EQ(end.status, 0);
}

TEST(Interrupt, AMappedFileThatBecomesShorterIsNamed) {
  const TempFolder folder;
  const auto path = folder.write("weights.bin", std::string(std::size_t{1} << 16, 'x'));
  const End end = run_in_child([&] {
    AtomicFile unfinished(folder / "out");
    const MappedFile file(path);
    std::filesystem::resize_file(path, 0);
    return static_cast<int>(file.bytes()[5000]);
  });
  ASSERT_TRUE(WIFEXITED(end.status));
  EXPECT_EQ(WEXITSTATUS(end.status), 1);
  EXPECT_EQ(end.said, "mochi: cannot read '" + path.string() +
                          "': it became shorter while it was read, or its disk failed\n");
  EXPECT_EQ(folder.num_entries(), 1U);  // nothing is half-written
}

}  // namespace
}  // namespace mochi::cli
