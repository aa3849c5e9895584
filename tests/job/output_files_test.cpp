#include "job/output_files.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/temp_folder.h"
#include "job/output_path.h"

namespace mochi::job {
namespace {

namespace fs = std::filesystem;

TEST(FileClaims, KnowAFileByAnySpelling) {
  const TempFolder folder;
  const fs::path file = folder.write("n.safetensors", "x");
  fs::create_symlink("n.safetensors", folder / "link");
  fs::create_hard_link(file, folder / "hard");
  fs::create_directory(folder / "sub");
  FileClaims claims;
  claims.add(file, "the start noise");
  claims.add(folder / "new.y4m", "v");
  claims.add(folder / "frames/", "w");
  EXPECT_EQ(claims.find(folder / "sub/../n.safetensors"), "the start noise");
  EXPECT_EQ(claims.find(folder / "link"), "the start noise");
  EXPECT_EQ(claims.find(folder / "hard"), "the start noise");
  EXPECT_EQ(claims.find(fs::relative(file)), "the start noise");
  EXPECT_EQ(claims.find(folder / "./new.y4m"), "v");
  EXPECT_EQ(claims.find(folder / "frames"), "w");
  EXPECT_EQ(claims.find(folder / "other.y4m"), "");
  claims.add("not-made-yet.y4m", "x");
  EXPECT_EQ(claims.find("./not-made-yet.y4m"), "x");
  EXPECT_EQ(claims.find(fs::absolute("not-made-yet.y4m")), "x");
}

TEST(ReserveOutput, GivesOneNameToEachHolder) {
  const TempFolder folder;
  const fs::path videos = folder / "videos";
  auto first = reserve_output(videos, "A red ball!", 7);
  EXPECT_EQ(first->path(), videos / "a-red-ball-7.mp4");
  const auto second = reserve_output(videos, "a red ball", 7);
  EXPECT_EQ(second->path(), videos / "a-red-ball-7-2.mp4");
  EXPECT_FALSE(fs::exists(first->path()));  // nothing half-written under the name itself
  first.reset();
  EXPECT_EQ(reserve_output(videos, "a red ball", 7)->path(), videos / "a-red-ball-7.mp4");
}

TEST(ReserveOutput, SkipsNamesOfVideosAndTheirFiles) {
  const TempFolder folder;
  folder.write("a-0.mp4", "");
  folder.write("a-0-2.mp4.checkpoint.safetensors", "");
  folder.write("a-0-3.mp4.json", "");
  EXPECT_EQ(reserve_output(folder.path(), "a", 0)->path(), folder / "a-0-4.mp4");
}

TEST(ReserveOutput, GivesDifferentNamesToProcesses) {
  const TempFolder folder;
  constexpr int kNumProcesses = 8;
  for (int i = 0; i < kNumProcesses; ++i) {
    if (::fork() != 0) continue;
    // Writes under the reserved name, as a video would: an existing file is a failure.
    const auto name = reserve_output(folder.path(), "a", 0);
    ::usleep(20'000);
    const bool is_new = !fs::exists(name->path());
    std::ofstream(name->path()) << "video";
    ::_exit(is_new ? 0 : 1);
  }
  for (int i = 0; i < kNumProcesses; ++i) {
    int status = 0;
    ::wait(&status);
    EXPECT_EQ(status, 0);
  }
  for (int number = 1; number <= kNumProcesses; ++number) {
    EXPECT_TRUE(fs::exists(numbered_output_path(folder.path(), "a", 0, number))) << number;
  }
}

TEST(ReserveOutput, AReservationOfAProcessThatEndedDoesNotCount) {
  const TempFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    const auto name = reserve_output(folder.path(), "a", 0);
    ::_exit(0);  // without destructors, as when it is killed
  }
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(reserve_output(folder.path(), "a", 0)->path(), folder / "a-0.mp4");
}

TEST(OutputPath, NamesTheFilesNextToAVideo) {
  EXPECT_EQ(sidecar_path("frames/"), "frames.json");
  EXPECT_EQ(sidecar_path("v.mp4"), "v.mp4.json");
  EXPECT_EQ(checkpoint_path("a/v.mp4"), "a/v.mp4.checkpoint.safetensors");
  EXPECT_EQ(numbered_output_path("o", "--", 1, 1), "o/video-1.mp4");
}

TEST(OutputPath, AnUnusedPathDoesNotExist) {
  const TempFolder folder;
  EXPECT_EQ(unused_path(folder / "l.safetensors"), folder / "l.safetensors");
  folder.write("l.safetensors", "");
  fs::create_symlink("nowhere", folder / "l-2.safetensors");
  EXPECT_EQ(unused_path(folder / "l.safetensors"), folder / "l-3.safetensors");
}

TEST(OutputPath, TheVideoOfACheckpointIsNextToIt) {
  EXPECT_EQ(output_of_checkpoint("a/v.y4m.checkpoint.safetensors", "v.y4m"), "a/v.y4m");
  EXPECT_EQ(output_of_checkpoint("v.y4m.checkpoint.safetensors", "b/v.y4m"), "v.y4m");
  EXPECT_EQ(output_of_checkpoint("a/f.checkpoint.safetensors", "old/f/"), "a/f/");
}

}  // namespace
}  // namespace mochi::job
