// Folders of the Hugging Face hub's cache: models--OWNER--REPO/{blobs,refs,snapshots/<revision>}.
#pragma once

#include <filesystem>

namespace mochi {

// Returns the snapshot that a cached repository's folder stands for: that of the revision `main`,
// else the only one. Every other folder is returned as it is. Throws Error that lists the snapshots
// if several are there and none is main's.
std::filesystem::path resolve_hub_cache(const std::filesystem::path& folder);

}  // namespace mochi
