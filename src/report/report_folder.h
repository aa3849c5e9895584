// A folder of a report's files, which appears whole or not at all.
#pragma once

#include <filesystem>
#include <span>
#include <string_view>

#include "base/atomic_file.h"

namespace mochi::report {

class ReportFolder {
 public:
  // A folder at `path` may be replaced if it is empty or has only files of these names, from an
  // earlier report. Throws Error if it has others, or cannot be written.
  ReportFolder(const std::filesystem::path& path, std::span<const std::string_view> names);

  // The temporary folder that takes the files.
  const std::filesystem::path& folder() const { return target_.temp_path(); }
  void commit();

 private:
  void check_replaceable() const;

  AtomicPath target_;
  std::span<const std::string_view> names_;
};

}  // namespace mochi::report
