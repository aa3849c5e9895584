// `mochi encode`: a video to latents. `mochi decode`: latents to a video.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "cli/generate_options.h"
#include "flags/cli11_fwd.h"

namespace mochi::cli {

struct EncodeOptions {
  std::filesystem::path video;
  std::filesystem::path output;
  std::string start = "0";
  std::optional<int> num_frames, width, height;
  std::optional<std::string> fit;
  EngineOptions engine;  // an empty model_dir: the bundled model
  bool is_quiet = false;
  bool is_verbose = false;
};

// Declare the flags; they write into `options`, which must outlive the parsing.
void add_encode_flags(CLI::App& command, EncodeOptions& options);
void add_decode_flags(CLI::App& command, GenerateOptions& options);  // for run_generate

// Throws Error naming the file, Cancelled when a signal came.
void run_encode(EncodeOptions options);

}  // namespace mochi::cli
