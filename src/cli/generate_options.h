// The flags of `mochi generate`.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "mochi/mochi.h"

namespace mochi::cli {

// What was given; everything else keeps the model directory's default.
struct GenerateOptions {
  std::optional<std::string> prompt;
  std::optional<std::string> negative_prompt;
  std::optional<int> width, height, num_frames, fps;
  std::optional<std::uint64_t> seed;
  std::optional<int> num_steps, linear_steps;
  std::optional<double> cfg_scale, threshold_noise;
  std::optional<std::string> noise_source;
  std::vector<double> cfg_schedule;
  std::optional<std::filesystem::path> noise_file;    // --noise
  std::optional<std::filesystem::path> latents_file;  // --from-latents
  std::optional<std::filesystem::path> save_latents;
  std::optional<std::filesystem::path> output;
  std::vector<std::string> loras;  // --lora-path, as given
  EngineOptions engine;            // an empty model_dir stands for the model in the box
  bool is_quiet = false;
};

// Declares the flags; they write into `options`, which must outlive the parsing.
void add_generate_flags(CLI::App& command, GenerateOptions& options);

// "FILE" or "FILE:scale". A file of the whole name goes first, whatever colons it has. Throws
// UsageError when what stands behind the last colon is no scale.
Lora parse_lora(const std::string& text);

// The defaults of the engine's model with what was given put over them. `noise` is the start noise
// read from a file, or null: it also decides the size where no flag does. Throws Error naming the
// field that does not fit.
GenerateRequest make_request(const GenerateOptions& options, const Engine& engine,
                             const Latents* noise);

}  // namespace mochi::cli
