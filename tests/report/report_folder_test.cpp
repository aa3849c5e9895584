#include "report/report_folder.h"

#include <gtest/gtest.h>

#include <array>

#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi::report {
namespace {

constexpr std::array<std::string_view, 2> kNames{"a.html", "b.csv"};

TEST(ReportFolder, AppearsWholeAndReplacesAnEarlierOne) {
  const TempFolder folder;
  for (const char* name : {"a.html", "b.csv"}) {
    {
      ReportFolder report(folder / "r", kNames);
      write_file_atomically(report.folder() / name, "content");
      report.commit();
    }
    EXPECT_EQ(folder.num_entries(), 1U);
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "r/a.html"));
  EXPECT_TRUE(std::filesystem::exists(folder / "r/b.csv"));
}

TEST(ReportFolder, LeavesNothingUnlessCommitted) {
  const TempFolder folder;
  {
    const ReportFolder report(folder / "r", kNames);
    write_file_atomically(report.folder() / "a.html", "content");
  }
  EXPECT_EQ(folder.num_entries(), 0U);
}

TEST(ReportFolder, RefusesAnEmptyName) {
  for (const char* path : {".", "./", ".."}) {
    expect_contains(message_of<Error>([&] { ReportFolder(path, kNames); }),
                    "cannot write '" + std::string(path) + "': wanted a name");
  }
}

// Files that appear while the report is made are found, too.
TEST(ReportFolder, ReplacesReportsOnly) {
  const TempFolder folder;
  ReportFolder report(folder / "r", kNames);
  std::filesystem::create_directory(folder / "r");
  folder.write("r/notes", "");
  expect_contains(message_of<Error>([&] { report.commit(); }), "it holds 'notes'");
  expect_contains(message_of<Error>([&] { ReportFolder(folder / "r", kNames); }),
                  "it holds 'notes'");
  EXPECT_TRUE(std::filesystem::exists(folder / "r/notes"));
}

}  // namespace
}  // namespace mochi::report
