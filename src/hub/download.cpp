#include "hub/download.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <csignal>
#include <optional>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/signal_block.h"
#include "hub/file_transfer.h"
#include "hub/hub.h"
#include "hub/part_file.h"
#include "hub/target_folder.h"

namespace mochi::hub {
namespace {

namespace fs = std::filesystem;

// Versions of a file that one run tries before it gives up.
constexpr int kMaxVersions = 3;
constexpr int kMaxAddresses = 5;

// Held while files are downloaded into the folder.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder) {
    create_folder(folder / kStateFolder);
    const fs::path path = folder / kStateFolder / "lock";
    constexpr mode_t kMode = 0666;
    file_ = FileDescriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kMode));
    if (!file_.is_open()) fail("cannot write '{}': {}", path.string(), describe_errno(errno));
    if (::flock(file_.get(), LOCK_EX | LOCK_NB) == 0) return;
    if (errno == EWOULDBLOCK) {
      fail("another process is downloading into '{}'; wait until it has ended", folder.string());
    }
    fail("cannot lock '{}': {}", path.string(), describe_errno(errno));
  }

 private:
  FileDescriptor file_;
};

class Download {
 public:
  Download(Client& client, const std::vector<PlannedFile>& plan, const fs::path& folder)
      : client_(client),
        folder_(folder),
        lock_(folder),
        records_(folder),
        files_(survey(plan, folder, records_)) {
    for (const SurveyedFile& file : files_) all_size_ += file.file.size;
  }

  void run() {
    for (SurveyedFile& file : files_) {
      if (file.state == FileState::kUnverified) verify_existing(file);
    }
    check_free_space(files_, folder_);
    for (const SurveyedFile& file : files_) {
      if (file.state == FileState::kComplete) all_complete_ += file.file.size;
    }
    for (const SurveyedFile& file : files_) {
      if (file.state != FileState::kComplete) fetch(file.file);
    }
  }

 private:
  fs::path target_of(const PlannedFile& file) const { return folder_ / file.target; }

  void report(Activity activity, const PlannedFile& file, std::uint64_t num_done) {
    client_.throw_if_stopped();
    client_.observer().on_progress({.activity = activity,
                                    .file = file.target,
                                    .file_done = num_done,
                                    .file_size = file.size,
                                    .all_done = all_complete_ + num_done,
                                    .all_size = all_size_});
  }

  // A file that another program has downloaded is read once.
  void verify_existing(SurveyedFile& surveyed) {
    const PlannedFile& file = surveyed.file;
    const fs::path target = target_of(file);
    const FileDescriptor opened(::open(target.c_str(), O_RDONLY | O_CLOEXEC));
    if (!opened.is_open()) fail("cannot read '{}': {}", target.string(), describe_errno(errno));
    PrefixHasher hasher(opened.get(), target);
    const std::string sha256 =
        hasher.finish(file.size, [&] { report(Activity::kChecking, file, hasher.num_hashed()); });
    if (!file.sha256.empty() && sha256 != file.sha256) {
      fail("'{}' is in the way: its SHA-256 is {}, and that of '{}' of '{}' is {}; move it away",
           target.string(), sha256, file.path, file.repository.name, file.sha256);
    }
    records_.add(file.target, target, sha256);
    surveyed.state = FileState::kComplete;
  }

  // Brings the plan in line with the version that the hub has now.
  void adopt(const Location& location, PlannedFile& file) const {
    const bool has_other_size = location.size && *location.size != file.size;
    const bool has_other_sha256 =
        !location.sha256.empty() && !file.sha256.empty() && location.sha256 != file.sha256;
    if (!has_other_size && !has_other_sha256) return;
    const std::uint64_t size = location.size.value_or(file.size);
    const bool is_verifiable = file.sha256.empty() || has_other_sha256;
    if (file.is_pinned || !is_verifiable) {
      fail("'{}' of '{}': wanted {} bytes{}, the server has {}{}", file.path, file.repository.name,
           file.size, with_sha256(file.sha256), size, with_sha256(location.sha256));
    }
    file.size = size;
    file.sha256 = location.sha256;
  }

  static std::string with_sha256(const std::string& sha256) {
    return sha256.empty() ? "" : fmt::format(" with SHA-256 {}", sha256);
  }

  void fetch(PlannedFile file) {
    create_folder(target_of(file).parent_path());
    std::uint64_t num_fetched = 0;
    int num_versions = 1;
    for (int num_addresses = 1;; ++num_addresses) {
      if (num_addresses > kMaxAddresses) {
        fail("'{}' of '{}': the server names addresses that are refused", file.path,
             file.repository.name);
      }
      Location location = locate(client_, file.repository, file.path);
      const std::uint64_t planned_size = file.size;
      adopt(location, file);
      all_size_ += file.size - planned_size;
      const std::string& version = location.etag.empty() ? file.sha256 : location.etag;
      PartFile part(target_of(file), version, file.size);
      FileTransfer transfer(client_, file.repository, file.path, location, part,
                            [&] { report(Activity::kFetching, file, part.done().num_bytes()); });
      const FileTransfer::End end = transfer.run();
      num_fetched += transfer.num_fetched();
      if (transfer.num_fetched() > 0) num_addresses = 0;
      if (end == FileTransfer::End::kExpired) continue;
      std::string problem = "it has changed on the server";
      if (end == FileTransfer::End::kComplete) {
        const std::string sha256 = hash(part, file);
        if (file.sha256.empty() || sha256 == file.sha256) {
          return complete(part, file, sha256, num_fetched);
        }
        problem = fmt::format("wanted SHA-256 {}, found {}", file.sha256, sha256);
        if (!part.is_continued()) num_versions = kMaxVersions;
      }
      part.discard();
      if (++num_versions > kMaxVersions) {
        fail("'{}' of '{}': {}", file.path, file.repository.name, problem);
      }
      client_.observer().on_note(fmt::format("{}: {}; fetching it again", file.target, problem));
    }
  }

  std::string hash(PartFile& part, const PlannedFile& file) {
    return part.sha256([&] { report(Activity::kVerifying, file, part.num_hashed()); });
  }

  // The record is written first: a file with its final name is always known.
  void complete(PartFile& part, const PlannedFile& file, const std::string& sha256,
                std::uint64_t num_fetched) {
    part.sync();
    records_.add(file.target, part_path(target_of(file)), sha256);
    part.commit();
    all_complete_ += file.size;
    client_.observer().on_complete(file.target, num_fetched);
  }

  Client& client_;
  const fs::path& folder_;
  FolderLock lock_;
  Records records_;
  std::vector<SurveyedFile> files_;
  std::uint64_t all_size_ = 0;
  std::uint64_t all_complete_ = 0;  // bytes of complete files
};

}  // namespace

void download(Client& client, const std::vector<PlannedFile>& plan, const fs::path& folder) {
  const SignalBlock no_file_size_signal(SIGXFSZ);  // writing beyond `ulimit -f` fails instead
  Download(client, plan, folder).run();
}

}  // namespace mochi::hub
