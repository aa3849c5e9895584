// Names of a video's file and of the files next to it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace mochi::job {

// "videos/a-red-ball-7.mp4" of a folder, a text and a seed; a `number` above 1 appends "-2", ...
std::filesystem::path numbered_output_path(const std::filesystem::path& folder,
                                           const std::string& text, std::uint64_t seed, int number);

// "clip.mp4" → "clip.mp4.checkpoint.safetensors".
std::filesystem::path checkpoint_path(const std::filesystem::path& output);

// "clip.mp4" → "clip.mp4.json"; "frames/" → "frames.json".
std::filesystem::path sidecar_path(const std::filesystem::path& output);

// "clip.mp4" → "clip.mp4.latents.safetensors", for sampled latents whose video cannot be made.
std::filesystem::path rescue_path(const std::filesystem::path& output);

// `path`, or the first of "clip-2.json", "clip-3.json", ... that does not exist.
std::filesystem::path unused_path(const std::filesystem::path& path);

// Returns the path of a checkpoint's video, which is next to it: the folder of the checkpoint, and
// the name that its recipe gives the video.
std::filesystem::path output_of_checkpoint(const std::filesystem::path& checkpoint,
                                           const std::filesystem::path& recorded_output);

}  // namespace mochi::job
