// The flags of `mochi generate`, and those that other commands share with it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "flags/cli11_fwd.h"
#include "job/job_options.h"

namespace mochi::cli {

// Settings of the whole run, not of one video.
struct RunOptions {
  std::optional<std::filesystem::path> sweep_file;  // many videos
  std::optional<std::filesystem::path> recipe;      // --from-json: an earlier video's JSON
  bool resumes = false;
  std::optional<std::filesystem::path> checkpoint;  // --resume FILE; else the output's own
  bool is_quiet = false;
  bool is_verbose = false;
  bool prints_json = false;
  std::vector<std::string> command;  // the words of the command line, the program's name first
};

// The values that were given; everything else keeps the model folder's default.
struct GenerateOptions {
  job::JobOptions job;             // an empty model_dir stands for the bundled model
  std::vector<std::string> loras;  // --lora-path, as given; job.engine.loras when parsed
  RunOptions run;
};

// Parses "FILE" or "FILE:scale". If a file of the whole name exists, it is taken, even if the name
// has colons. Throws UsageError if the text after the last colon is no scale.
Lora parse_lora(const std::string& text);

// Declares the flags; they write into `options`, which must outlive the parsing.
void add_generate_flags(CLI::App& command, GenerateOptions& options);

// --weights.
CLI::Option* add_weights_flag(CLI::App& command, std::optional<WeightFormat>& weights);
CLI::Option* add_compute_flag(CLI::App& command, std::optional<ComputePlan>& plan);
// The command also has --compute.
CLI::Option* add_compute_table_flag(CLI::App& command, std::optional<ComputePlan>& plan);

// --lora-path, then --cpu-offload and --weights. The command's callback has to call take_loras().
CLI::Option* add_lora_flags(CLI::App& command, GenerateOptions& options);
void take_loras(GenerateOptions& options);

// --out, --out-dir and --fps.
void add_output_flags(CLI::App& command, GenerateOptions& options);

// --quiet, --json; `what` names the subject of the JSON.
void add_report_flags(CLI::App& command, GenerateOptions& options, const char* what = "video");

// --dit, --text-encoder, --vae and --tokenizer: networks that replace those of the model folder.
void add_path_flags(CLI::App& command, ModelPaths& paths);

// Values of --device: "cuda:1" is the second GPU.
inline constexpr const char* kDeviceType = "auto|cpu|cuda[:N]";

// --model-dir, --device, --dtype, --threads, ...: of every command that runs a network.
void add_engine_flags(CLI::App& command, EngineOptions& options);

}  // namespace mochi::cli
