// The file that a path names, with links resolved.
#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <string>

namespace mochi {

// "a regular file", "a named pipe", "a device", ...
const char* describe_file_kind(mode_t mode);

// Why open() gave this errno for the path: "it is a link to 'x', which does not exist".
std::string explain_open(const std::filesystem::path& path, int code);

// Returns the path without links, "." and "..", even if the file does not exist yet. A file that is
// written to `path` appears there. Two spellings of one file give equal results.
std::filesystem::path canonical_target(const std::filesystem::path& path);

// Returns true if two paths name one file, by different spellings, links or hard links, too.
bool same_file(const std::filesystem::path& a, const std::filesystem::path& b);

}  // namespace mochi
