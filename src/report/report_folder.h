// A folder of a report's files, which appears whole or not at all.
#pragma once

#include <filesystem>
#include <span>
#include <string_view>

#include "base/atomic_file.h"

namespace mochi::report {

class ReportFolder {
 public:
  // A folder at `path` may be replaced when it is empty or holds nothing but files of these names,
  // of an earlier report. Throws Error when it holds more, or cannot be written.
  ReportFolder(const std::filesystem::path& path, std::span<const std::string_view> names);

  // Where to put the files.
  const std::filesystem::path& folder() const { return target_.temp_path(); }
  void commit();

 private:
  void check_replaceable() const;

  AtomicPath target_;
  std::span<const std::string_view> names_;
};

}  // namespace mochi::report
