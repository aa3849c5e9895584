// Text files read whole.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "base/stop.h"

namespace mochi {

// Returns the content of a file, a pipe (such as a shell's <(...)) or a terminal, of at most
// `max_bytes`, without a byte order mark. Waits for the writer of a named pipe. Throws Error naming
// the file, and Cancelled.
std::string read_text_file(const std::filesystem::path& path, std::size_t max_bytes,
                           const StopFn& should_stop = {});

}  // namespace mochi
