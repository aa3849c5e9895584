// Half-written outputs of runs that were killed.
#pragma once

#include <filesystem>

namespace mochi {

// Removes the temporary files and folders of AtomicPath (base/atomic_file.h) beside `path` that
// belong to this output and to a process that no longer runs.
void remove_stale_parts(const std::filesystem::path& path);

}  // namespace mochi
