// Where results go, and where the model in the box is.
#pragma once

#include <filesystem>
#include <set>
#include <string>

namespace mochi::cli {

// "videos/a-red-ball-7.mp4" of a folder, a text and a seed; `number` 2, 3, ... puts "-2", ...
// behind.
std::filesystem::path numbered_output_path(const std::filesystem::path& folder,
                                           const std::string& text, std::uint64_t seed, int number);

// The first of them that neither exists nor is in `taken`. Makes the folder.
std::filesystem::path default_output_path(const std::filesystem::path& folder,
                                          const std::string& text, std::uint64_t seed,
                                          const std::set<std::filesystem::path>& taken = {});

// "clip.mp4" → "clip.mp4.checkpoint.safetensors".
std::filesystem::path checkpoint_path(const std::filesystem::path& output);

// "clip.mp4" → "clip.mp4.json"; "frames/" → "frames.json".
std::filesystem::path sidecar_path(const std::filesystem::path& output);

// models/micro beside the program: in its source tree or below its install prefix. Throws Error
// naming the places.
std::filesystem::path find_boxed_model();
// Likewise chipmunk-config.yml.
std::filesystem::path find_boxed_sparsity();

}  // namespace mochi::cli
