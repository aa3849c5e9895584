// A file that is being downloaded: "<name>.part" with a journal of the ranges that it already has,
// "<name>.part.json". Both outlive a process that is killed at any moment.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/file_descriptor.h"
#include "hub/byte_range.h"
#include "hub/sha256.h"

namespace mochi::hub {

// Folder for the lock and the list of complete files, inside the folder that is downloaded to.
inline constexpr std::string_view kStateFolder = ".mochi-download";
inline constexpr std::size_t kLongestSuffix = sizeof(".part.json") - 1;

std::filesystem::path part_path(const std::filesystem::path& target);
std::filesystem::path journal_path(const std::filesystem::path& target);

// Ranges of one version of a file.
struct Journal {
  std::string etag;  // the version's name on the hub
  std::uint64_t size = 0;
  RangeSet done;
};

// Throws Error for a text that is no journal.
Journal parse_journal(std::string_view text, const std::string& source);
std::string format_journal(const Journal& journal);
// Returns nothing if there is no journal or if it cannot be read.
std::optional<Journal> read_journal(const std::filesystem::path& target);

class PartFile {
 public:
  // Continues the part of an earlier run if its journal is about this version; else starts again.
  // Throws Error if the file cannot be written, or if a "<name>.part" without a journal is in the
  // way, which another program has left.
  PartFile(std::filesystem::path target, const std::string& etag, std::uint64_t size);
  // Writes the journal.
  ~PartFile();
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  // Throws Error if the disk is full.
  void write(std::uint64_t offset, std::span<const std::byte> bytes);

  const RangeSet& done() const { return journal_.done; }
  std::uint64_t size() const { return journal_.size; }
  bool is_complete() const { return journal_.done.num_bytes() == journal_.size; }
  // Returns true if bytes of an earlier run are used.
  bool is_continued() const { return is_continued_; }

  std::uint64_t num_hashed() const { return hasher_->num_hashed(); }
  // Waits for the checksum of the complete file, as PrefixHasher::finish() does.
  std::string sha256(const std::function<void()>& on_wait);
  // Syncs the file to the disk.
  void sync();
  // Gives the file its name. A file of that name is replaced.
  void commit();
  // Removes the file and its journal.
  void discard();

 private:
  void open();
  void write_journal();

  std::filesystem::path target_;
  Journal journal_;
  FileDescriptor journal_file_;
  std::size_t num_journal_bytes_ = 0;  // on disk, with spaces at the end
  FileDescriptor file_;
  std::unique_ptr<PrefixHasher> hasher_;
  std::uint64_t num_unsaved_ = 0;  // bytes that the journal on disk does not have
  std::chrono::steady_clock::time_point saved_at_;
  bool is_continued_ = false;
  bool is_open_ = true;
};

}  // namespace mochi::hub
