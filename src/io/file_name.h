// Endings and order of file names.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace mochi {

// ".mp4" for "clip.MP4", "" for "frames" and "frames/".
std::string lower_extension(const std::filesystem::path& path);

// Order of names as people number them: runs of digits compare as numbers, so that "2" comes before
// "10"; everything else compares byte by byte. Names that differ only in leading zeros are
// equivalent.
bool natural_less(std::string_view left, std::string_view right);

}  // namespace mochi
