// Assigns the files of a model folder to networks. Every layout in use is recognised by the tensors
// that the files contain; names only decide between several suitable files.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/stored_source.h"
#include "pipeline/component.h"

namespace mochi {

struct ModelFiles {
  // The tensors of each network, and the files that they are in. One file may hold several
  // networks.
  std::map<Component, std::shared_ptr<StoredSource>> networks;
  // Why a network cannot be used although there is a file for it: one line that names the file.
  std::map<Component, std::string> problems;
  // Why a file cannot be read that is probably another model's, for networks that are missing.
  std::map<Component, std::string> bystanders;
  // Choices that were made between several copies of a network, one line each.
  std::vector<std::string> notes;
};

// Reads the headers of all files. A file that cannot be read is no error unless its network is
// needed and has no other copy; hidden files are passed over.
ModelFiles find_model_files(const std::filesystem::path& folder);

// Puts these networks, as they are in a file or in a folder, in place of those of `files`. At least
// one must be there. Throws InvalidRequest("dit") or "text_encoder" or "vae".
void replace_networks(const char* field, const std::filesystem::path& path,
                      std::span<const Component> components, ModelFiles& files);

}  // namespace mochi
