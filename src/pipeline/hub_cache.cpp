#include "pipeline/hub_cache.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/text_file.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

// Returns the names of the snapshots, sorted.
std::vector<std::string> list_snapshots(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder / "snapshots", error)) {
    std::error_code ignored;
    if (entry.is_directory(ignored)) names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

// Returns the revision that `main` was at the last download; empty if it is not known.
std::string read_main(const fs::path& folder) {
  constexpr std::size_t kMaxBytes = 4096;
  const fs::path path = folder / "refs" / "main";
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return "";
  std::string revision = read_text_file(path, kMaxBytes);
  revision.erase(revision.find_last_not_of(" \r\n") + 1);
  return revision;
}

}  // namespace

fs::path resolve_hub_cache(const fs::path& folder) {
  const std::vector<std::string> snapshots = list_snapshots(folder);
  if (snapshots.empty()) return folder;
  const std::string revision = read_main(folder);
  if (std::ranges::find(snapshots, revision) != snapshots.end()) {
    return folder / "snapshots" / revision;
  }
  if (snapshots.size() == 1) return folder / "snapshots" / snapshots.front();
  fail(
      "'{}' holds {} snapshots, and none is that of refs/main; wanted one of the folders '{}' in "
      "'{}'",
      folder.string(), snapshots.size(), fmt::join(snapshots, "', '"),
      (folder / "snapshots").string());
}

}  // namespace mochi
