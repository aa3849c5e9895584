#include "hub/target_folder.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi::hub {
namespace {

namespace fs = std::filesystem;

TEST(TargetFolder, RemovesWhatItCreatedUnlessItIsUsed) {
  const TempFolder folder;
  fs::create_directory(folder / "old");
  {
    const TargetFolder target(folder / "old" / "a" / "b");
    EXPECT_TRUE(fs::is_directory(folder / "old/a/b/.mochi-download"));
  }
  EXPECT_TRUE(fs::is_empty(folder / "old"));
  {
    const TargetFolder target(folder / "old" / "a" / "b");
    folder.write("old/a/file", "x");
  }
  EXPECT_FALSE(fs::exists(folder / "old/a/b"));
  EXPECT_TRUE(fs::exists(folder / "old/a/file"));
}

TEST(TargetFolder, LeavesNothingIfAFolderCannotBeCreated) {
  const TempFolder folder;
  constexpr std::size_t kTooLong = 300;
  const fs::path path = folder / "a" / std::string(kTooLong, 'b');
  expect_contains(message_of<Error>([&] { const TargetFolder target(path); }), "too long");
  EXPECT_EQ(folder.num_entries(), 0U);
}

TEST(TargetFolder, WhatIsNoFolderIsRefused) {
  const TempFolder folder;
  folder.write("file", "");
  fs::create_symlink("missing", folder / "link");
  for (const char* name : {"file", "file/a/b", "link", "link/a"}) {
    expect_contains(message_of<Error>([&] { check_target_folder(folder / name); }),
                    "is not a folder");
  }
  EXPECT_NO_THROW(check_target_folder(folder / "a/b/"));
  EXPECT_FALSE(fs::exists(folder / "a"));
}

TEST(TargetFolder, FreeSpaceIsThatOfTheDiskThatItWillBeOn) {
  const TempFolder folder;
  EXPECT_GT(free_space(folder / "a/b"), 0U);
  EXPECT_GT(free_space("not-here"), 0U);
}

}  // namespace
}  // namespace mochi::hub
