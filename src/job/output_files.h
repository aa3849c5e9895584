// The files that a run reads and writes: none is written twice, no input is written over, and names
// that the program chooses belong to one run alone.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "base/atomic_file.h"

namespace mochi::job {

// Which file is what. Two spellings of a path, links and hard links are the same file.
class FileClaims {
 public:
  // What the file is for, as sentences go on: "the start noise". Empty: nobody has claimed it.
  std::string find(const std::filesystem::path& path) const;
  void add(const std::filesystem::path& path, const std::string& use);

 private:
  std::map<std::string, std::string> uses_;  // of identities
};

// A name for an output that this process alone uses, held by a temporary file beside it. Other runs
// of the program take another name.
class ReservedName {
 public:
  explicit ReservedName(const std::filesystem::path& path);
  const std::filesystem::path& path() const { return holder_.path(); }

 private:
  AtomicPath holder_;
};

// Reserves the first name of "<text>-<seed>.mp4", "<text>-<seed>-2.mp4", ... for which there is
// neither a video nor its JSON or checkpoint, and which no other run has reserved. Makes the
// folder.
std::unique_ptr<ReservedName> reserve_output(const std::filesystem::path& folder,
                                             const std::string& text, std::uint64_t seed);

}  // namespace mochi::job
