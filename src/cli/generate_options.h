// The flags of `mochi generate`.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/cli_fwd.h"
#include "mochi/mochi.h"

namespace mochi::cli {

inline constexpr int kMaxFps = 1000;

// How `mochi generate` goes about it: of the whole run, not of one video.
struct RunOptions {
  std::optional<std::filesystem::path> out_dir;     // of outputs without a name of their own
  std::optional<std::filesystem::path> sweep_file;  // many videos
  std::optional<std::filesystem::path> recipe;      // --from-json: an earlier video's JSON
  int checkpoint_every = 0;
  bool checks_finite = false;  // --check-nan
  bool resumes = false;
  std::optional<std::filesystem::path> checkpoint;  // --resume FILE; else the output's own
  bool is_quiet = false;
  bool is_verbose = false;
  bool prints_json = false;
};

// What was given; everything else keeps the model directory's default.
struct GenerateOptions {
  std::optional<std::string> prompt;
  std::optional<std::string> negative_prompt;
  std::optional<int> width, height, num_frames, fps;
  std::optional<std::uint64_t> seed;
  std::optional<int> num_steps, linear_steps;
  std::optional<double> cfg_scale, threshold_noise;
  std::optional<NoiseSource> noise_source;
  std::vector<double> cfg_schedule;
  std::optional<std::filesystem::path> chipmunk_config;
  bool is_dense = false;                              // --no-sparsity
  std::optional<SparsityConfig> sparsity;             // of a recipe; the two above go first
  std::optional<std::filesystem::path> noise_file;    // --noise
  std::optional<std::filesystem::path> latents_file;  // --from-latents
  std::optional<std::filesystem::path> save_latents;
  std::optional<std::filesystem::path> output;
  std::vector<std::string> loras;  // --lora-path, as given; engine.loras when parsed
  EngineOptions engine;            // an empty model_dir stands for the model in the box
  RunOptions run;
};

// "FILE" or "FILE:scale". A file of the whole name goes first, whatever colons it has. Throws
// UsageError when what stands behind the last colon is no scale.
Lora parse_lora(const std::string& text);

// Declares the flags; they write into `options`, which must outlive the parsing.
void add_generate_flags(CLI::App& command, GenerateOptions& options);

// In the order in which help shows them.
using Flags = std::vector<const CLI::Option*>;

// --negative-prompt, --width, --height, --num-frames, --seed, --num-steps, --cfg-scale.
Flags add_basic_flags(CLI::App& command, GenerateOptions& options);

// What is to be seen and how it is sampled: --prompt, those, and more of them to --noise.
Flags add_request_flags(CLI::App& command, GenerateOptions& options);

// --chipmunk-config.
CLI::Option* add_sparsity_flag(CLI::App& command, GenerateOptions& options, const char* help);

// --lora-path, and --cpu-offload behind it. The command's callback has to call take_loras().
CLI::Option* add_lora_flags(CLI::App& command, GenerateOptions& options);
void take_loras(GenerateOptions& options);

// --fps, and the check of what was given: throws UsageError.
void add_fps_flag(CLI::App& command, GenerateOptions& options);
void check_fps(const GenerateOptions& options);

// --out, --out-dir, --fps, and that the first two exclude each other.
void add_output_flags(CLI::App& command, GenerateOptions& options);

// --quiet, --json; `what` the JSON is of.
void add_report_flags(CLI::App& command, GenerateOptions& options, const char* what = "video");

// --model-dir, --device, --dtype, --threads, ...: of every command that runs a network.
void add_engine_flags(CLI::App& command, EngineOptions& options);

// Where no model is named, the one in the box, if one is needed.
void choose_model(EngineOptions& options);

// `upper` where it says something, else `lower`; `run` is that of `lower`.
GenerateOptions overlay(GenerateOptions lower, const GenerateOptions& upper);

// The defaults of the engine's model with what was given put over them. `noise` is the start noise
// read from a file, or null: it also decides the size where no flag does. Throws Error naming the
// field that does not fit. Warnings about the sparsity file are added to `warnings`, if given.
GenerateRequest make_request(const GenerateOptions& options, const Engine& engine,
                             const Latents* noise, std::vector<std::string>* warnings = nullptr);

}  // namespace mochi::cli
