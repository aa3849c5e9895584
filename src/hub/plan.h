// The plan of a download: which files, from where, to where, and how much of it already exists.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "hub/http.h"
#include "hub/known_models.h"
#include "hub/listing.h"
#include "hub/records.h"
#include "hub/repository.h"

namespace mochi::hub {

struct PlannedFile {
  Repository repository;
  std::string path;    // inside the repository
  std::string target;  // below the folder
  std::uint64_t size = 0;
  std::string sha256;      // empty: unknown
  bool is_pinned = false;  // this program knows the size and checksum that the file must have
};

// Looks a known model's file up in the list of its repository. Throws Error if it is missing there
// or is not the file that this program knows.
PlannedFile plan_known_file(const KnownFile& known, const std::vector<RemoteFile>& listed);

std::vector<PlannedFile> plan_known_files(Client& client, const std::vector<KnownFile>& files);
std::vector<PlannedFile> plan_repository(Client& client, const Repository& repository,
                                         const std::vector<std::string>& patterns);

enum class FileState : std::uint8_t {
  kMissing,     // or an older version that this program has downloaded
  kPartial,     // some bytes of this size are there
  kUnverified,  // a file of this size that this program has not downloaded
  kComplete,
};

struct SurveyedFile {
  PlannedFile file;
  FileState state = FileState::kMissing;
  std::uint64_t num_present = 0;  // bytes
};

// Compares the folder with the plan without reading the files. Throws Error that names a file of
// another origin and size, which would have to be replaced.
std::vector<SurveyedFile> survey(const std::vector<PlannedFile>& plan,
                                 const std::filesystem::path& folder, const Records& records);

std::uint64_t bytes_to_fetch(const std::vector<SurveyedFile>& files);

// Throws Error if the disk has too little space for the rest.
void check_free_space(const std::vector<SurveyedFile>& files, const std::filesystem::path& folder);

// "20.06 GB", "791.7 kB": powers of ten.
std::string format_bytes(std::uint64_t num_bytes);

}  // namespace mochi::hub
