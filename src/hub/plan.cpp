#include "hub/plan.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <utility>

#include "base/error.h"
#include "hub/hub.h"
#include "hub/part_file.h"
#include "hub/target_folder.h"

namespace mochi::hub {
namespace {

namespace fs = std::filesystem;

// Returns the bytes that a part occupies on the disk; 0 if there is none.
std::uint64_t num_allocated(const fs::path& target) {
  struct stat facts{};
  if (::stat(part_path(target).c_str(), &facts) != 0) return 0;
  constexpr std::uint64_t kBlockBytes = 512;
  return static_cast<std::uint64_t>(facts.st_blocks) * kBlockBytes;
}

SurveyedFile survey_missing(const PlannedFile& file, const fs::path& target) {
  const std::optional<Journal> journal = read_journal(target);
  if (!journal || journal->size != file.size) return {file, FileState::kMissing, 0};
  return {file, FileState::kPartial, journal->done.num_bytes()};
}

SurveyedFile survey_file(const PlannedFile& file, const fs::path& folder, const Records& records) {
  const fs::path target = folder / file.target;
  std::error_code error;
  const fs::file_status status = fs::status(target, error);
  if (!fs::exists(status)) return survey_missing(file, target);
  if (!fs::is_regular_file(status)) {
    fail("'{}' is in the way: it is no regular file", target.string());
  }
  const std::string recorded = records.sha256_of(file.target);
  const std::uint64_t size = fs::file_size(target);
  if (size == file.size && (file.sha256.empty() ? !recorded.empty() : recorded == file.sha256)) {
    return {file, FileState::kComplete, size};
  }
  if (!recorded.empty()) return survey_missing(file, target);  // an older version
  if (size == file.size) return {file, FileState::kUnverified, size};
  fail("'{}' is in the way: it has {} bytes and '{}' of '{}' has {}; move it away", target.string(),
       size, file.path, file.repository.name, file.size);
}

}  // namespace

PlannedFile plan_known_file(const KnownFile& known, const std::vector<RemoteFile>& listed) {
  const auto found = std::ranges::find(listed, known.path, &RemoteFile::path);
  if (found == listed.end()) {
    fail("repository '{}' has no file '{}' any more; 'mochi download {} --list' lists its files",
         known.repository, known.path, known.repository);
  }
  const bool is_pinned = !known.sha256.empty();
  if (is_pinned && (found->size != known.size || found->sha256 != known.sha256)) {
    fail(
        "repository '{}', file '{}': wanted {} bytes with SHA-256 {}, found {} with {}; "
        "'{}' itself downloads it nevertheless",
        known.repository, known.path, known.size, known.sha256, found->size,
        found->sha256.empty() ? "none" : found->sha256, known.repository);
  }
  return {.repository = {std::string(known.repository)},
          .path = found->path,
          .target = std::string(known.target),
          .size = found->size,
          .sha256 = found->sha256,
          .is_pinned = is_pinned};
}

std::vector<PlannedFile> plan_known_files(Client& client, const std::vector<KnownFile>& files) {
  std::map<std::string_view, std::vector<RemoteFile>> listed;
  std::vector<PlannedFile> plan;
  for (const KnownFile& file : files) {
    const auto [listing, is_new] = listed.try_emplace(file.repository);
    if (is_new) listing->second = list_files(client, {std::string(file.repository)});
    plan.push_back(plan_known_file(file, listing->second));
  }
  return plan;
}

std::vector<PlannedFile> plan_repository(Client& client, const Repository& repository,
                                         const std::vector<std::string>& patterns) {
  const std::vector<RemoteFile> listed = list_files(client, repository);
  const std::string source = fmt::format("repository '{}'", repository.name);
  std::vector<PlannedFile> plan;
  for (const RemoteFile& file : select_files(listed, patterns, source)) {
    plan.push_back({repository, file.path, file.path, file.size, file.sha256});
  }
  if (plan.empty()) fail("{} has no files", source);
  return plan;
}

std::vector<SurveyedFile> survey(const std::vector<PlannedFile>& plan, const fs::path& folder,
                                 const Records& records) {
  std::vector<SurveyedFile> files;
  files.reserve(plan.size());
  for (const PlannedFile& file : plan) files.push_back(survey_file(file, folder, records));
  return files;
}

std::uint64_t bytes_to_fetch(const std::vector<SurveyedFile>& files) {
  std::uint64_t num_bytes = 0;
  for (const SurveyedFile& file : files) num_bytes += file.file.size - file.num_present;
  return num_bytes;
}

void check_free_space(const std::vector<SurveyedFile>& files, const fs::path& folder) {
  std::uint64_t needed = 0;
  for (const SurveyedFile& file : files) {
    if (file.state == FileState::kComplete || file.state == FileState::kUnverified) continue;
    needed += file.file.size - std::min(file.file.size, num_allocated(folder / file.file.target));
  }
  const std::uint64_t available = free_space(folder);
  if (needed > available) {
    fail("'{}': wanted {} of free space, found {}", folder.string(), format_bytes(needed),
         format_bytes(available));
  }
}

std::string format_bytes(std::uint64_t num_bytes) {
  constexpr double kThousand = 1000;
  constexpr std::array kUnits{"kB", "MB", "GB", "TB", "PB"};
  if (num_bytes < static_cast<std::uint64_t>(kThousand)) return fmt::format("{} B", num_bytes);
  double amount = static_cast<double>(num_bytes) / kThousand;
  std::size_t unit = 0;
  for (; amount >= kThousand && unit + 1 < kUnits.size(); ++unit) amount /= kThousand;
  return fmt::format("{:.{}f} {}", amount, amount < 10 ? 2 : 1, kUnits[unit]);
}

}  // namespace mochi::hub
