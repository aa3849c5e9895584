#include "hub/part_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/text_file.h"
#include "io/json.h"

namespace mochi::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxJournalBytes = std::size_t{1} << 20;
// So much is fetched again at most after a kill, in addition to what was on its way.
constexpr std::uint64_t kBytesBetweenSaves = std::uint64_t{4} << 20;
constexpr std::chrono::milliseconds kTimeBetweenSaves{200};

fs::path with_suffix(fs::path path, std::string_view suffix) {
  path += suffix;
  return path;
}

[[noreturn]] void fail_to_write(const fs::path& path, int code) {
  fail("cannot write '{}': {}", path.string(), describe_errno(code));
}

FileDescriptor open_to_write(const fs::path& path) {
  constexpr mode_t kMode = 0666;
  FileDescriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kMode));
  if (!file.is_open()) fail_to_write(path, errno);
  return file;
}

ByteRange parse_range(const Json& item, const std::string& source) {
  const bool is_pair = item.is_array() && item.size() == 2 && item[0].is_number_unsigned() &&
                       item[1].is_number_unsigned();
  if (!is_pair) fail("{}: done: wanted pairs of whole numbers", source);
  return {item[0].get<std::uint64_t>(), item[1].get<std::uint64_t>()};
}

// Returns a function that lets the kernel begin to write the first `end` bytes of a file to the
// disk, in large pieces, so that a sync at the end of a download has little to wait for.
PrefixHasher::OnHashed begin_writeback(int descriptor) {
  constexpr std::uint64_t kPieceBytes = std::uint64_t{32} << 20;
  return [descriptor, begin = std::uint64_t{0}](std::uint64_t end) mutable {
    if (end - begin < kPieceBytes) return;
    ::sync_file_range(descriptor, static_cast<off64_t>(begin), static_cast<off64_t>(end - begin),
                      SYNC_FILE_RANGE_WRITE);  // not every file system can
    begin = end;
  };
}

void sync_folder(const fs::path& folder) {
  const FileDescriptor opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (opened.is_open()) ::fsync(opened.get());  // not every file system can
}

}  // namespace

fs::path part_path(const fs::path& target) { return with_suffix(target, ".part"); }

fs::path journal_path(const fs::path& target) { return with_suffix(target, ".part.json"); }

Journal parse_journal(std::string_view text, const std::string& source) {
  const Json json = parse_json(text, source);
  JsonReader reader(json, source);
  Journal journal;
  journal.etag = reader.require_string("etag");
  journal.size = reader.get_uint("size", 0);
  const Json* done = reader.get_json("done");
  if (done == nullptr || !done->is_array()) fail("{}: done: wanted a list", source);
  for (const Json& item : *done) {
    const ByteRange range = parse_range(item, source);
    if (range.begin >= range.end || range.end > journal.size) {
      fail("{}: done: [{}, {}] is no range of {} bytes", source, range.begin, range.end,
           journal.size);
    }
    journal.done.add(range);
  }
  return journal;
}

std::string format_journal(const Journal& journal) {
  Json done = Json::array();
  for (const ByteRange& range : journal.done.ranges()) {
    done.push_back(Json::array({range.begin, range.end}));
  }
  const Json json{{"etag", journal.etag}, {"size", journal.size}, {"done", std::move(done)}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::optional<Journal> read_journal(const fs::path& target) {
  const fs::path path = journal_path(target);
  try {
    return parse_journal(read_text_file(path, kMaxJournalBytes), path.string());
  } catch (const Error&) {
    return std::nullopt;
  }
}

PartFile::PartFile(fs::path target, const std::string& etag, std::uint64_t size)
    : target_(std::move(target)), journal_{etag, size, {}} {
  const fs::path path = part_path(target_);
  std::error_code ignored;
  const bool has_part = fs::exists(fs::symlink_status(path, ignored));
  if (has_part && !fs::exists(journal_path(target_), ignored)) {
    fail("'{}' is in the way: it is not a download of this program", path.string());
  }
  std::optional<Journal> earlier = has_part ? read_journal(target_) : std::nullopt;
  const bool is_same = earlier && !etag.empty() && earlier->etag == etag && earlier->size == size;
  if (is_same) journal_ = *std::move(earlier);
  open();
  struct stat facts{};
  if (::fstat(file_.get(), &facts) != 0) fail_to_write(path, errno);
  // A part that is shorter than its journal says was damaged.
  const auto& ranges = journal_.done.ranges();
  if (!ranges.empty() && static_cast<std::uint64_t>(facts.st_size) < ranges.back().end) {
    journal_.done = {};
  }
  is_continued_ = journal_.done.num_bytes() > 0;
  if (!is_continued_ && ::ftruncate(file_.get(), 0) != 0) fail_to_write(path, errno);
  // Space that is reserved in one piece is cheaper to write to, and connections that write to
  // several places at a time do not scatter the file over the disk. Not every file system can.
  ::fallocate(file_.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size));
  hasher_ = std::make_unique<PrefixHasher>(file_.get(), path, begin_writeback(file_.get()));
  hasher_->advance(journal_.done.prefix_end());
}

PartFile::~PartFile() {
  if (!is_open_) return;
  try {
    write_journal();
  } catch (const std::exception&) {  // the journal before this one is only a little older
    return;
  }
}

// The journal comes first, so that a part without one is always another program's.
void PartFile::open() {
  journal_file_ = open_to_write(journal_path(target_));
  const off_t size = ::lseek(journal_file_.get(), 0, SEEK_END);
  if (size > 0) num_journal_bytes_ = std::min(static_cast<std::size_t>(size), kMaxJournalBytes);
  write_journal();
  file_ = open_to_write(part_path(target_));
}

// One write of less than a page, over the journal before it: a process that is killed leaves either
// of them. A new file for each would cost more than the download's own writes.
void PartFile::write_journal() {
  std::string text = format_journal(journal_);
  num_journal_bytes_ = std::max(num_journal_bytes_, text.size());
  text.resize(num_journal_bytes_, ' ');
  if (::pwrite(journal_file_.get(), text.data(), text.size(), 0) !=
      static_cast<ssize_t>(text.size())) {
    fail_to_write(journal_path(target_), errno);
  }
}

void PartFile::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  const ByteRange range{offset, offset + bytes.size()};
  while (!bytes.empty()) {
    const ssize_t num_written =
        ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (num_written < 0 && errno == EINTR) continue;
    if (num_written < 0) fail_to_write(part_path(target_), errno);
    bytes = bytes.subspan(static_cast<std::size_t>(num_written));
    offset += static_cast<std::uint64_t>(num_written);
  }
  journal_.done.add(range);
  hasher_->advance(journal_.done.prefix_end());
  num_unsaved_ += range.size();
  const auto now = std::chrono::steady_clock::now();
  if (num_unsaved_ < kBytesBetweenSaves && now - saved_at_ < kTimeBetweenSaves) return;
  write_journal();
  num_unsaved_ = 0;
  saved_at_ = now;
}

std::string PartFile::sha256(const std::function<void()>& on_wait) {
  return hasher_->finish(journal_.size, on_wait);
}

void PartFile::sync() {
  if (::fsync(file_.get()) != 0) fail_to_write(part_path(target_), errno);
}

void PartFile::commit() {
  std::error_code error;
  fs::rename(part_path(target_), target_, error);
  if (error) fail_to_write(target_, error.value());
  is_open_ = false;
  fs::remove(journal_path(target_), error);
  sync_folder(target_.parent_path());
}

void PartFile::discard() {
  is_open_ = false;
  std::error_code ignored;
  fs::remove(part_path(target_), ignored);
  fs::remove(journal_path(target_), ignored);
}

}  // namespace mochi::hub
