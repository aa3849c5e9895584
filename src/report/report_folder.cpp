#include "report/report_folder.h"

#include <algorithm>

#include "base/error.h"

namespace mochi::report {

namespace fs = std::filesystem;

ReportFolder::ReportFolder(const fs::path& path, std::span<const std::string_view> names)
    : target_(path), names_(names) {
  // The current folder and its parents cannot be renamed over.
  const fs::path name = target_.path().filename();
  if (name == "." || name == "..") fail("cannot write '{}': wanted a name", path.string());
  check_replaceable();
  std::error_code error;
  fs::create_directory(folder(), error);
  if (error)
    fail("cannot create the folder '{}': {}", target_.path().string(),
         describe_errno(error.value()));
}

void ReportFolder::commit() {
  check_replaceable();
  target_.commit_over_folder();
}

void ReportFolder::check_replaceable() const {
  const fs::path& path = target_.path();
  if (!fs::exists(path)) return;
  if (!fs::is_directory(path)) {
    fail("cannot write a folder '{}': a file of that name exists", path.string());
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && std::ranges::find(names_, name) != names_.end()) continue;
    fail("cannot replace folder '{}': it holds '{}', which is not a file of a report",
         path.string(), name);
  }
}

}  // namespace mochi::report
