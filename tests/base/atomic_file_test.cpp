#include "base/atomic_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/file_target.h"
#include "base/temp_folder.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

TEST(AtomicFile, AppearsOnlyOnCommit) {
  const TempFolder folder;
  AtomicFile file(folder / "out.bin");
  file.write("hello ");
  file.write("world");
  EXPECT_FALSE(fs::exists(folder / "out.bin"));
  expect_contains(file.temp_path().string(), "out.bin.part-" + std::to_string(::getpid()));
  file.commit();
  EXPECT_EQ(read_text(folder / "out.bin"), "hello world");
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST(AtomicFile, ReplacesAnEarlierFile) {
  const TempFolder folder;
  folder.write("out.bin", "old");
  write_file_atomically(folder / "out.bin", "new");
  EXPECT_EQ(read_text(folder / "out.bin"), "new");
}

TEST(AtomicFile, LeavesNothingWithoutCommit) {
  const TempFolder folder;
  folder.write("out.bin", "old");
  {
    AtomicFile file(folder / "out.bin");
    file.write("half");
    EXPECT_EQ(folder.num_entries(), 2U);
  }
  EXPECT_EQ(read_text(folder / "out.bin"), "old");
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST(AtomicFile, TwoWritersOfOneNameDoNotMix) {
  const TempFolder folder;
  AtomicFile first(folder / "out");
  AtomicFile second(folder / "out");
  first.write("first");
  second.write("second");
  second.commit();
  first.commit();
  EXPECT_EQ(read_text(folder / "out"), "first");
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST(AtomicFile, GetsTheUsualPermissions) {
  const TempFolder folder;
  const mode_t old_mask = ::umask(022);
  write_file_atomically(folder / "out", "x");
  ::umask(old_mask);
  EXPECT_EQ(fs::status(folder / "out").permissions(), fs::perms(0644));
}

TEST(AtomicFile, CommitTwiceIsRefused) {
  const TempFolder folder;
  AtomicFile file(folder / "out");
  file.commit();
  EXPECT_THROW(file.commit(), Error);
  EXPECT_TRUE(fs::exists(folder / "out"));
}

std::string creation_error(const fs::path& path) {
  return message_of<Error>([&] { const AtomicFile file(path); });
}

TEST(AtomicFile, ErrorsSayWhy) {
  const TempFolder folder;
  expect_contains(creation_error(folder / "missing/out"), "missing' does not exist");
  folder.write("plain", "");
  expect_contains(creation_error(folder / "plain/out"), "is not a folder");
  expect_contains(creation_error(folder.path()), "is a folder");
  expect_contains(creation_error("/"), "not a file name");
}

TEST(AtomicFile, UnwritableFolderIsRefused) {
  // Not even root can make files there.
  expect_contains(creation_error("/proc/out.bin"), "cannot write '/proc/out.bin'");
  const TempFolder folder;
  fs::permissions(folder.path(), fs::perms(0555));
  if (::geteuid() != 0) expect_contains(creation_error(folder / "out"), "is not writable");
  fs::permissions(folder.path(), fs::perms(0755));
}

TEST(AtomicPath, CommitsAFolder) {
  const TempFolder folder;
  AtomicPath target(folder / "frames/");
  EXPECT_EQ(target.path(), folder / "frames");
  fs::create_directory(target.temp_path());
  std::ofstream(target.temp_path() / "a") << "content";
  target.commit();
  EXPECT_EQ(read_text(folder / "frames/a"), "content");
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST(AtomicPath, ReplacesAFolder) {
  const TempFolder folder;
  for (const char* name : {"a", "b"}) {
    AtomicPath target(folder / "frames");
    fs::create_directory(target.temp_path());
    std::ofstream(target.temp_path() / name) << name;
    target.commit_over_folder();
  }
  EXPECT_FALSE(fs::exists(folder / "frames/a"));
  EXPECT_EQ(read_text(folder / "frames/b"), "b");
  AtomicPath nothing(folder / "frames");  // there is nothing to put there
  EXPECT_THROW(nothing.commit_over_folder(), Error);
  EXPECT_EQ(read_text(folder / "frames/b"), "b");
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST(AtomicPath, RemovesAnUncommittedFolder) {
  const TempFolder folder;
  {
    const AtomicPath target(folder / "frames");
    fs::create_directory(target.temp_path());
    std::ofstream(target.temp_path() / "a") << "content";
  }
  EXPECT_EQ(folder.num_entries(), 0U);
}

// ---- what has the name already ----

TEST(AtomicFile, WritesIntoANamedPipe) {
  const TempFolder folder;
  const fs::path fifo = folder.make_fifo();
  {
    const AtomicFile probe(fifo);
  }  // opens nothing, so that the reader sees one writer
  std::string text;
  std::thread reader([&] { text = read_text(fifo); });
  write_file_atomically(fifo, std::string(300'000, 'x'));
  reader.join();
  EXPECT_EQ(text.size(), 300'000U);
  EXPECT_TRUE(fs::is_fifo(fifo));
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST(AtomicFile, WritesToADevice) {
  write_file_atomically("/dev/null", "content");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  const auto write = [] { write_file_atomically("/dev/full", "content"); };
  expect_contains(message_of<Error>(write), "cannot write '/dev/full': No space left on device");
}

TEST(AtomicFile, AppendsToAnOpenDescriptor) {
  const TempFolder folder;
  const fs::path path = folder.write("log", "first ");
  const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_APPEND));
  write_file_atomically("/dev/fd/" + std::to_string(file.get()), "second");
  EXPECT_EQ(read_text(path), "first second");
}

TEST(AtomicFile, RefusesSockets) {
  const TempFolder folder;
  const fs::path path = folder / "socket";
  const FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.string().copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  expect_contains(creation_error(path), "socket': is a socket");
  EXPECT_TRUE(fs::is_socket(path));
}

TEST(AtomicFile, ProgramsThatWriteForThemselvesGetRegularFilesOnly) {
  const TempFolder folder;
  const auto open = [](const fs::path& path) {
    return message_of<Error>([&] { const AtomicFile file(path, SpecialFile::kRefuse); });
  };
  expect_contains(open(folder.make_fifo()), "fifo': is a named pipe, and a regular file is wanted");
  expect_contains(open("/dev/null"), "is a device");
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST(AtomicPath, RefusesSpecialFiles) {
  const TempFolder folder;
  const fs::path fifo = folder.make_fifo();
  expect_contains(message_of<Error>([&] { const AtomicPath path(fifo); }), "is a named pipe");
}

TEST(AtomicFile, ReplacesTheTargetOfALinkAndKeepsTheLink) {
  const TempFolder folder;
  fs::create_directory(folder / "elsewhere");
  folder.write("elsewhere/old", "old");
  for (const char* target : {"elsewhere/old", "elsewhere/new"}) {  // the second one dangles
    fs::remove(folder / "link");
    fs::create_symlink(target, folder / "link");
    write_file_atomically(folder / "link", "content");
    EXPECT_TRUE(fs::is_symlink(folder / "link"));
    EXPECT_EQ(read_text(folder / target), "content");
  }
  EXPECT_EQ(folder.num_entries(), 2U);
}

// ---- parts that are left behind ----

// The number of a process that has ended.
pid_t dead_process() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  return child;
}

TEST(AtomicFile, RemovesPartsOfProcessesThatEnded) {
  const TempFolder folder;
  const std::string dead = std::to_string(dead_process());
  folder.write("out.part-" + dead + "-3", "half");
  fs::create_directory(folder / ("out.part-" + dead + "-4"));
  folder.write("out.part-" + dead + "-4/frame", "half");
  const std::set<std::string> others{"out.part-" + std::to_string(::getppid()) + "-0",
                                     "out.part-" + dead, "out.part-" + dead + "-x",
                                     "other.part-" + dead + "-3", "out.part-my-notes"};
  for (const std::string& name : others) folder.write(name, "kept");
  write_file_atomically(folder / "out", "whole");
  for (const std::string& name : others) EXPECT_TRUE(fs::exists(folder / name)) << name;
  EXPECT_EQ(folder.num_entries(), others.size() + 1);
}

TEST(AtomicFile, PartsInUseOnAnotherMachineAreKept) {
  const TempFolder folder;
  const fs::path part = folder.write("out.part-" + std::to_string(dead_process()) + "-3", "half");
  const FileDescriptor writer(::open(part.c_str(), O_WRONLY));
  ASSERT_EQ(::flock(writer.get(), LOCK_EX), 0);
  write_file_atomically(folder / "out", "whole");
  EXPECT_TRUE(fs::exists(part));
}

TEST(AtomicFile, AFileSizeLimitIsAnErrorAndLeavesNothing) {
  const TempFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit limit{.rlim_cur = 4096, .rlim_max = 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    bool has_failed = false;
    try {
      write_file_atomically(folder / "out", std::string(10'000, 'x'));
    } catch (const Error& error) {
      has_failed = std::string(error.what()).ends_with("File too large");
    }
    ::_exit(has_failed ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(folder.num_entries(), 0U);
}

TEST(WriteNewFile, RefusesToReplace) {
  const TempFolder folder;
  write_new_file(folder / "a", "content", "shown");
  EXPECT_EQ(read_text(folder / "a"), "content");
  expect_contains(message_of<Error>([&] { write_new_file(folder / "a", "other", "shown"); }),
                  "cannot write 'shown': File exists");
  EXPECT_EQ(read_text(folder / "a"), "content");
}

TEST(RemovePartsAtExit, RemovesWhatIsNotFinished) {
  const TempFolder folder;
  AtomicFile finished(folder / "finished");
  finished.commit();
  AtomicFile unfinished(folder / "unfinished");
  unfinished.write("x");
  const AtomicPath not_begun(folder / "not_begun");
  EXPECT_EQ(folder.num_entries(), 2U);
  remove_parts_at_exit();
  EXPECT_EQ(folder.num_entries(), 1U);
  EXPECT_TRUE(fs::exists(folder / "finished"));
}

TEST(RemovePartsAtExit, ManyPartsAreNoError) {
  const TempFolder folder;
  std::vector<std::unique_ptr<AtomicFile>> files;
  for (int i = 0; i < 100; ++i) {
    files.push_back(std::make_unique<AtomicFile>(folder / std::to_string(i)));
  }
  remove_parts_at_exit();
  EXPECT_LT(folder.num_entries(), 100U);
  files.clear();
  EXPECT_EQ(folder.num_entries(), 0U);
}

// ---- names of one file ----

TEST(SameFile, IsFoundUnderAnySpelling) {
  const TempFolder folder;
  folder.write("file", "");
  folder.write("other", "");
  fs::create_directory(folder / "sub");
  fs::create_symlink("file", folder / "link");
  fs::create_symlink("new", folder / "dangling");
  fs::create_hard_link(folder / "file", folder / "hard");
  EXPECT_TRUE(same_file(folder / "file", folder / "sub/../file"));
  EXPECT_TRUE(same_file(folder / "file", folder / "./link"));
  EXPECT_TRUE(same_file(folder / "file", folder / "hard"));
  EXPECT_TRUE(same_file(folder / "new", folder / "sub/../new"));
  EXPECT_TRUE(same_file(folder / "new", folder / "dangling"));
  EXPECT_TRUE(same_file(folder / "sub", folder / "sub/"));
  EXPECT_TRUE(same_file("name", fs::current_path() / "name"));
  EXPECT_FALSE(same_file(folder / "file", folder / "other"));
  EXPECT_FALSE(same_file(folder / "new", folder / "newer"));
}

}  // namespace
}  // namespace mochi
