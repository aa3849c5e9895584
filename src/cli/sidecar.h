// The JSON beside a video: all that is needed to make it again.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "mochi/mochi.h"

namespace mochi::cli {

struct Outcome {
  std::filesystem::path output;
  VideoSize size;
  int fps = 0;
  GenerateRequest request;                            // as it was run; unused with latents_file
  std::optional<std::filesystem::path> noise_file;    // the start noise came from here
  std::optional<std::filesystem::path> latents_file;  // the latents came from here
  std::filesystem::path model_dir;
  RandomWeights random_weights = RandomWeights::kNone;
  std::vector<Lora> loras;
  std::map<Phase, double> seconds;
  double total_seconds = 0;
  std::uint64_t peak_memory_bytes = 0;
};

// The video, what was asked for, and what made it: what decides the frames.
nlohmann::ordered_json describe_recipe(const Outcome& outcome, const Engine& engine);

// The recipe with seconds and memory.
nlohmann::ordered_json describe_outcome(const Outcome& outcome, const Engine& engine);

}  // namespace mochi::cli
