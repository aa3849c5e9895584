// Files and folders that appear whole or not at all: they are made under a temporary name in the
// same folder and renamed when finished.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>

#include "base/file_descriptor.h"
#include "base/stop.h"

namespace mochi {

// A temporary name "<name>.part-<pid>-<n>" next to the file or folder that it will become. The file
// or folder under it is removed on destruction unless committed. Those that ended processes left
// are removed when the same output is written next. A symbolic link stays, and the file that it
// names is replaced. Throws Error if the folder is missing or cannot be written, and if something
// other than a regular file or a folder has the name.
class AtomicPath {
 public:
  explicit AtomicPath(const std::filesystem::path& path);
  ~AtomicPath();

  AtomicPath(const AtomicPath&) = delete;
  AtomicPath& operator=(const AtomicPath&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& temp_path() const { return temp_path_; }

  // Syncs the file or folder under temp_path() to disk and renames it to path(), replacing a file
  // or an empty folder of that name.
  void commit();
  // Commits, too, but may replace a folder with files, which are removed when the new folder is in
  // its place.
  void commit_over_folder();

 private:
  std::filesystem::path path_;    // as the caller spells it
  std::filesystem::path target_;  // where that is
  std::filesystem::path temp_path_;
  bool is_committed_ = false;
};

// Decides how a named pipe or a character device (/dev/null, /dev/stdout) is treated. Everything
// else that is not a regular file is refused.
enum class SpecialFile : std::uint8_t { kRefuse, kWriteThrough };

class AtomicFile {
 public:
  // Creates the temporary file at once, so that an output that cannot be written is found early. A
  // special file is opened at the first write, which waits for the reader of a named pipe and
  // throws Cancelled when should_stop returns true.
  explicit AtomicFile(const std::filesystem::path& path,
                      SpecialFile special = SpecialFile::kWriteThrough, StopFn should_stop = {});

  // For programs that write the file themselves, with SpecialFile::kRefuse only.
  const std::filesystem::path& temp_path() const;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void commit();

 private:
  void open_special();

  std::filesystem::path path_;
  std::optional<AtomicPath> target_;  // nothing for a special file
  StopFn should_stop_;
  FileDescriptor file_;
};

// Writes the whole content in one call.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

// Writes a file that must not exist yet, in a folder that is itself committed later. Errors call it
// `shown`, since the folder still has its temporary name.
void write_new_file(const std::filesystem::path& path, std::string_view content,
                    const std::filesystem::path& shown);

// Removes the temporary files of this process, for a signal handler that ends it: allocates nothing
// and waits for nothing. Temporary folders stay until the output is written next.
void remove_parts_at_exit() noexcept;

}  // namespace mochi
