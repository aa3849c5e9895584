#include "base/mapped_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi {
namespace {

std::string text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFile, HasTheContentOfTheFile) {
  const TempFolder folder;
  const MappedFile file(folder.write("a.txt", "some bytes"));
  EXPECT_EQ(text_of(file), "some bytes");
  EXPECT_EQ(file.path(), folder / "a.txt");
}

TEST(MappedFile, EmptyFileGivesNoBytes) {
  const TempFolder folder;
  EXPECT_TRUE(MappedFile(folder.write("empty", "")).bytes().empty());
}

TEST(MappedFile, MovesWithItsMapping) {
  const TempFolder folder;
  MappedFile first(folder.write("a", "first"));
  MappedFile second(folder.write("b", "second"));
  second = std::move(first);
  EXPECT_EQ(text_of(second), "first");
  EXPECT_TRUE(first.bytes().empty());  // NOLINT(bugprone-use-after-move): what a move leaves
  const MappedFile third(std::move(second));
  EXPECT_EQ(text_of(third), "first");
}

TEST(MappedFile, ErrorsNameTheFileAndTheReason) {
  const TempFolder folder;
  const auto missing = folder / "missing";
  const std::string message = message_of<Error>([&] { const MappedFile file(missing); });
  expect_contains(message, missing.string());
  expect_contains(message, "No such file");
  const auto open_folder = [&] { const MappedFile file(folder.path()); };
  expect_contains(message_of<Error>(open_folder), "is a folder");
  const auto open_device = [] { const MappedFile file("/dev/null"); };
  expect_contains(message_of<Error>(open_device), "not a regular file");
}

// Returns the process's resident memory of mapped files, in kB.
std::int64_t mapped_kilobytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  std::int64_t value = 0;
  while (status >> word) {
    if (word == "RssFile:") status >> value;
  }
  return value;
}

TEST(MappedFile, ReleasedPagesLeaveTheMemoryAndKeepTheirContent) {
  const TempFolder folder;
  const std::string content(std::size_t{16} << 20, 'x');
  const MappedFile file(folder.write("a", content));
  ASSERT_EQ(text_of(file), content);  // reads all of it
  const std::int64_t before = mapped_kilobytes();
  file.release(file.bytes().subspan(100, content.size() - 200));
  EXPECT_LT(mapped_kilobytes(), before - 14 * 1024);
  EXPECT_EQ(text_of(file), content);
}

TEST(MappedFile, OtherMemoryIsNotReleased) {
  const TempFolder folder;
  const MappedFile file(folder.write("a", "some bytes"));
  const std::vector<std::byte> other(std::size_t{1} << 20, std::byte{7});
  file.release(other);
  EXPECT_EQ(std::ranges::count(other, std::byte{7}), std::ssize(other));
}

}  // namespace
}  // namespace mochi
