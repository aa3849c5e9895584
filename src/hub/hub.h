// Questions to the hub about repositories and files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hub/http.h"
#include "hub/listing.h"
#include "hub/repository.h"

namespace mochi::hub {

// Lists all files of a repository. Throws Error that says why the hub does not.
std::vector<RemoteFile> list_files(Client& client, const Repository& repository);

// The address of a file's bytes, and the version of the file that they belong to.
struct Location {
  std::string url;
  bool is_elsewhere = false;  // on another host, by an address that may expire
  std::string etag;           // the version's name on the hub
  // Strong ETag that the bytes will come with; empty if it is not known yet.
  std::string served_etag;
  std::optional<std::uint64_t> size;
  std::string sha256;  // empty: not stated
};

// Asks the hub where a file is. Throws Error that says why the hub does not answer.
Location locate(Client& client, const Repository& repository, const std::string& path);

}  // namespace mochi::hub
