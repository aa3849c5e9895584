// Everything that is needed to make a video again: the JSON next to a video, also stored in latents
// files and checkpoints.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "io/json.h"
#include "job/request.h"

namespace mochi::job {

struct Recipe {
  std::filesystem::path output;  // the video's file
  VideoSize size;
  Request request;  // fps; and all other fields, unless the video was decoded from latents
  std::optional<std::filesystem::path> latents_file;
  EngineOptions engine;                // model_dir, random_weights, loras, device, dtype
  std::vector<ModelFile> model_files;  // as they were
  std::set<int> evaluated_steps;       // those that the video's sampling evaluated; empty: unknown
  // Checkpoints only: further outputs of the run.
  std::optional<std::filesystem::path> save_latents;
  int checkpoint_every = 0;
  std::string source;  // the file that it was read from, for messages

  // The frame rate, which every recipe has.
  FrameRate fps() const;
};

// The model files and the engine that run a recipe.
struct MadeWith {
  std::vector<ModelFile> model_files;
  EngineInfo engine;
};
MadeWith made_with(const Engine& engine);

// Sections made_by, video, request or latents, model and engine.
nlohmann::ordered_json describe_recipe(const Recipe& recipe, const MadeWith& with);
// The section `run` of a checkpoint's recipe.
nlohmann::ordered_json describe_run(const Recipe& recipe);

// Throws Error naming the file and the key, or a noise, latents or LoRA file that has changed or no
// longer exists. Keys of other sections (seconds) are passed over.
Recipe parse_recipe(const Json& json, const std::string& source);

// Reads the recipe in the metadata of latents, but only the parts that decoding needs, because the
// input files may no longer exist.
Recipe parse_recipe_for_decoding(const Json& json, const std::string& source);

// Returns the decoder's files among a model's, judged by their names; all of them if no name tells.
std::vector<ModelFile> decoder_files(std::vector<ModelFile> files);

// Throws Error naming the first model file that is not what it was.
void check_model_files(const Recipe& recipe, const std::vector<ModelFile>& found);

// Throws Error when `found` has another decoder than the model that made the latents.
void check_decoder(const Recipe& recipe, const std::vector<ModelFile>& found);

}  // namespace mochi::job
