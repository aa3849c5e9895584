// Files and folders that appear whole or not at all: they are made under a temporary name in the
// same folder and renamed when finished.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

#include "base/file_descriptor.h"

namespace mochi {

// A temporary name "<name>.part-<pid>-<n>" beside `path`. Whatever lies under it is removed on
// destruction unless committed. Throws Error when the folder is missing or cannot be written.
class AtomicPath {
 public:
  explicit AtomicPath(const std::filesystem::path& path);
  ~AtomicPath();

  AtomicPath(const AtomicPath&) = delete;
  AtomicPath& operator=(const AtomicPath&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& temp_path() const { return temp_path_; }

  // Syncs what lies under temp_path() to disk and renames it to path(), replacing a file or an
  // empty folder of that name.
  void commit();
  // The same where a folder of that name may hold files: it steps aside, and goes only when the new
  // one is in place.
  void commit_over_folder();

 private:
  std::filesystem::path path_;
  std::filesystem::path temp_path_;
  bool is_committed_ = false;
};

class AtomicFile {
 public:
  // Creates the temporary file at once, so that an output that cannot be written is found early.
  explicit AtomicFile(const std::filesystem::path& path);

  // For programs that write the file themselves.
  const std::filesystem::path& temp_path() const { return target_.temp_path(); }

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void commit();

 private:
  AtomicPath target_;
  FileDescriptor file_;
};

// The whole content in one call.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

}  // namespace mochi
