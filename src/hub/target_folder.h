// The folder that files are downloaded into.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace mochi::hub {

// Creates the folder and those above it. Throws Error that names it.
void create_folder(const std::filesystem::path& folder);

// Throws Error if files cannot be written into the folder. If it does not exist, it must be
// possible to create it.
void check_target_folder(const std::filesystem::path& folder);

// Returns the free space of the disk that the folder, which need not exist, is on.
std::uint64_t free_space(const std::filesystem::path& folder);

// Creates a folder for downloads, with its folder for this program's state, before it is known
// whether anything can be downloaded.
class TargetFolder {
 public:
  // Throws Error as check_target_folder() and create_folder() do.
  explicit TargetFolder(const std::filesystem::path& folder);
  // Removes the folders that it has created, unless there is something in them now.
  ~TargetFolder();
  TargetFolder(const TargetFolder&) = delete;
  TargetFolder& operator=(const TargetFolder&) = delete;

 private:
  void remove_empty() noexcept;

  std::vector<std::filesystem::path> created_;  // each one is inside the next
};

}  // namespace mochi::hub
