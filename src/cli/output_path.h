// Where results go, and where the model in the box is.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace mochi::cli {

// "videos/a-red-ball-7.mp4" of a text and a seed, in the current folder, with "-2", "-3", ...
// behind it where that exists already. Makes the folder.
std::filesystem::path default_output_path(const std::string& text, std::uint64_t seed);

// "clip.mp4" → "clip.mp4.json"; "frames/" → "frames.json".
std::filesystem::path sidecar_path(const std::filesystem::path& output);

// models/micro beside the program: in its source tree or below its install prefix. Throws Error
// naming the places.
std::filesystem::path find_boxed_model();

}  // namespace mochi::cli
