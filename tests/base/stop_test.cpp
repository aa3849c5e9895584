#include "base/stop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <string>
#include <thread>

#include "base/atomic_file.h"
#include "base/mapped_file.h"
#include "base/subprocess.h"
#include "base/temp_folder.h"
#include "base/text_file.h"

namespace mochi {
namespace {

// Stops a call that has been running for a moment.
class Stop : public testing::Test {
 protected:
  StopFn soon() const {
    return [begin = std::chrono::steady_clock::now()] {
      return std::chrono::steady_clock::now() - begin > std::chrono::milliseconds(150);
    };
  }
  const TempFolder folder_;
};

std::vector<std::string> sleeper() { return {"sleep", "1000"}; }

TEST_F(Stop, EndsAWriteThatNobodyReads) {
  Subprocess child(sleeper(), {.to_stdin = true}, soon());
  const std::vector<std::byte> much(std::size_t{1} << 20);
  EXPECT_THROW(child.write_all(much), Cancelled);
}

TEST_F(Stop, EndsAReadOfASilentChild) {
  Subprocess child(sleeper(), {.from_stdout = true}, soon());
  EXPECT_THROW(child.read_all(), Cancelled);
}

TEST_F(Stop, EndsTheWaitForAChild) {
  Subprocess child(sleeper(), {}, soon());
  EXPECT_THROW(child.wait(), Cancelled);
}

TEST_F(Stop, EndsTheWaitForTheReaderOfANamedPipe) {
  AtomicFile file(folder_.make_fifo(), SpecialFile::kWriteThrough, soon());
  EXPECT_THROW(file.write("x"), Cancelled);
}

TEST_F(Stop, EndsTheWaitForTheWriterOfANamedPipe) {
  EXPECT_THROW(read_text_file(folder_.make_fifo(), 100, soon()), Cancelled);
}

std::atomic<bool> s_has_signal{false};

TEST_F(Stop, ASignalIsSeenAtOnceEvenWhereCallsAreRestarted) {
  struct sigaction action{};
  struct sigaction old_action{};
  action.sa_handler = [](int) { s_has_signal = true; };
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGUSR1, &action, &old_action);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const pthread_t reader = ::pthread_self();
  std::thread sender([reader] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    ::pthread_kill(reader, SIGUSR1);
  });
  EXPECT_THROW(await_ready(ends[0], POLLIN, [] { return s_has_signal.load(); }), Cancelled);
  sender.join();
  ::sigaction(SIGUSR1, &old_action, nullptr);
  for (const int end : ends) ::close(end);
}

TEST(MappedFile, ANamedPipeIsRefusedWithoutWaitingForAWriter) {
  const TempFolder folder;
  const auto path = folder.make_fifo();
  expect_contains(message_of<Error>([&] { const MappedFile file(path); }), "is a named pipe");
}

TEST(TextFile, ReadsFilesAndPipesToTheirEnd) {
  const TempFolder folder;
  const std::string text(200'000, 'x');
  EXPECT_EQ(read_text_file(folder.write("file", text), 1 << 20), text);
  const auto fifo = folder.make_fifo();
  std::thread writer([&] { std::ofstream(fifo) << text; });
  EXPECT_EQ(read_text_file(fifo, 1 << 20), text);
  writer.join();
  EXPECT_EQ(read_text_file("/dev/null", 10), "");
  EXPECT_EQ(read_text_file(folder.write("mark", "\xef\xbb\xbf{}"), 10), "{}");
}

TEST(TextFile, RefusesLongFiles) {
  const TempFolder folder;
  const auto error_of = [](const std::filesystem::path& path) {
    return message_of<Error>([&] { read_text_file(path, 1000); });
  };
  const auto hole = folder.write("hole", "");
  std::filesystem::resize_file(hole, std::uintmax_t{40} << 30);
  expect_contains(error_of(hole), "hole': wanted a text file of at most 1000 bytes, found more");
  expect_contains(error_of("/dev/zero"), "at most 1000 bytes");
  EXPECT_EQ(read_text_file(folder.write("just", std::string(1000, 'x')), 1000).size(), 1000U);
}

TEST(TextFile, ErrorsNameTheFile) {
  const TempFolder folder;
  const auto error_of = [](const std::filesystem::path& path) {
    return message_of<Error>([&] { read_text_file(path, 1000); });
  };
  expect_contains(error_of(folder / "missing"), "missing': No such file");
  expect_contains(error_of(folder.path()), "is a folder");
  std::filesystem::create_symlink("nowhere", folder / "link");
  expect_contains(error_of(folder / "link"), "it is a link to 'nowhere', which does not exist");
}

}  // namespace
}  // namespace mochi
