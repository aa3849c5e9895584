// The JSON beside a video, read back: options that make the video again.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/generate_options.h"
#include "io/json.h"

namespace mochi::cli {

struct Recipe {
  GenerateOptions options;             // of the video; without an output
  std::filesystem::path output;        // where it went
  std::vector<ModelFile> model_files;  // as they were
  std::string source;                  // the file, for messages
};

// Throws Error naming the file and the key, or a noise or latents file that is gone or has changed.
Recipe parse_recipe(const Json& json, const std::string& source);

// Throws Error naming the first model file that is not what it was.
void check_model_files(const Recipe& recipe, const Engine& engine);

}  // namespace mochi::cli
