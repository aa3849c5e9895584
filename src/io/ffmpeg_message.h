// Texts about the ffmpeg and ffprobe programs, for errors.
#pragma once

#include <string>
#include <string_view>

#include "base/subprocess.h"

namespace mochi {

// Returns a line of ffmpeg without parts that mean nothing to its reader: "[mov,mp4 @
// 0x5617f7d4b640] ", addresses, the "file:" of names, a full stop at the end.
std::string clean_ffmpeg_line(std::string_view line);

// Returns true if the line reports that the file ends too early.
bool says_cut_off(std::string_view line);

// The child's describe_end(), with its line cleaned.
std::string describe_ffmpeg_end(const Subprocess& child);

}  // namespace mochi
