// The files that a run reads and writes: none is written twice, no input is written over, and names
// that the program chooses belong to one run alone.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "base/atomic_file.h"

namespace mochi::job {

// Records the use of each file. Two spellings of a path, links and hard links count as one file.
class FileClaims {
 public:
  // Returns the use of a claimed file, such as "the start noise"; empty if it is not claimed.
  std::string find(const std::filesystem::path& path) const;
  void add(const std::filesystem::path& path, const std::string& use);

 private:
  std::map<std::string, std::string> uses_;  // by identity
};

// A name for an output that this process alone uses, held by a temporary file next to it. Other
// runs of the program take another name.
class ReservedName {
 public:
  explicit ReservedName(const std::filesystem::path& path);
  const std::filesystem::path& path() const { return holder_.path(); }

 private:
  AtomicPath holder_;
};

// Reserves the first name of "<text>-<seed>.mp4", "<text>-<seed>-2.mp4", ... that has
// neither a video nor its JSON or checkpoint, and that no other run has reserved. Creates the
// folder.
std::unique_ptr<ReservedName> reserve_output(const std::filesystem::path& folder,
                                             const std::string& text, std::uint64_t seed);

}  // namespace mochi::job
