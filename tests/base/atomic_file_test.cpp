#include "base/atomic_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "base/error.h"
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
  expect_contains(creation_error(folder.path()), "is a directory");
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

TEST(AtomicPath, PutsAFolderInThePlaceOfAnother) {
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

}  // namespace
}  // namespace mochi
