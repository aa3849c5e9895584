#include "pipeline/hub_cache.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

class HubCache : public testing::Test {
 protected:
  void add_snapshot(const std::string& revision) const {
    fs::create_directories(folder_.path() / "snapshots" / revision);
  }
  void set_main(const std::string& revision) const {
    fs::create_directories(folder_.path() / "refs");
    folder_.write("refs/main", revision);
  }

  TempFolder folder_;
};

TEST_F(HubCache, FoldersOfOtherKindsAreReturned) {
  EXPECT_EQ(resolve_hub_cache(folder_.path()), folder_.path());
  EXPECT_EQ(resolve_hub_cache(folder_ / "none"), folder_ / "none");
}

TEST_F(HubCache, TheSnapshotOfMainIsTaken) {
  add_snapshot("aaa");
  add_snapshot("bbb");
  set_main("bbb\n");
  EXPECT_EQ(resolve_hub_cache(folder_.path()), folder_ / "snapshots/bbb");
}

TEST_F(HubCache, TheOnlySnapshotIsTaken) {
  add_snapshot("aaa");
  EXPECT_EQ(resolve_hub_cache(folder_.path()), folder_ / "snapshots/aaa");
  set_main("gone");
  EXPECT_EQ(resolve_hub_cache(folder_.path()), folder_ / "snapshots/aaa");
}

TEST_F(HubCache, SeveralSnapshotsWithoutMainAreRefused) {
  add_snapshot("aaa");
  add_snapshot("bbb");
  const std::string message = message_of<Error>([&] { resolve_hub_cache(folder_.path()); });
  expect_contains(message, "holds 2 snapshots");
  expect_contains(message, "'aaa', 'bbb' in");
}

}  // namespace
}  // namespace mochi
