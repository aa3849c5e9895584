#include "cli/job_inputs.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "cli/interrupt.h"
#include "flags/usage_error.h"
#include "job/checkpoint_file.h"
#include "job/latents_file.h"
#include "job/output_path.h"
#include "job/sweep.h"

namespace mochi::cli {
namespace {

namespace fs = std::filesystem;
using job::JobInput;
using job::Recipe;

// The checkpoint named on the command line, or the one next to the output.
fs::path find_checkpoint(const GenerateOptions& options) {
  if (options.run.checkpoint) return *options.run.checkpoint;
  if (options.job.output) return job::checkpoint_path(*options.job.output);
  const job::Request& request = options.job.request;
  if (!request.prompt) {
    throw flags::UsageError(
        "--resume: give the checkpoint's file, or --out or --prompt of its video");
  }
  const fs::path folder = options.job.out_dir.value_or("videos");
  for (int number = 1;; ++number) {
    const fs::path output =
        job::numbered_output_path(folder, *request.prompt, request.seed.value_or(0), number);
    const fs::path checkpoint = job::checkpoint_path(output);
    if (fs::exists(checkpoint)) return checkpoint;
    if (!fs::exists(output)) fail("--resume: no checkpoint '{}'", checkpoint.string());
  }
}

// A pipe gives its text once.
void check_shared_config(const GenerateOptions& given, std::size_t num_videos) {
  const std::optional<fs::path>& config = given.job.request.chipmunk_config;
  std::error_code error;
  if (num_videos < 2 || !config || !fs::exists(*config, error)) return;
  if (fs::is_regular_file(*config, error) || fs::is_directory(*config, error)) return;
  throw flags::UsageError(fmt::format(
      "--chipmunk-config: wanted a regular file for {} videos, found '{}', which can be read once",
      num_videos, config->string()));
}

std::vector<JobInput> read_sweep(const GenerateOptions& given, const fs::path& file) {
  std::vector<JobInput> videos;
  for (job::SweepVideo& video : job::read_sweep_file(file, given.job, was_interrupted)) {
    JobInput input{.options = std::move(video.options),
                   .source = {.name = std::move(video.source),
                              .prefix = "",
                              .fields = job::given_fields(video.own),
                              .is_line = true},
                   .continues = given.run.resumes};
    input.source.fields.insert(input.source.fields.end(), {"out", "save_latents"});
    videos.push_back(std::move(input));
  }
  check_shared_config(given, videos.size());
  return videos;
}

// The options of a recipe; its files are named by the caller.
job::JobOptions options_of(const Recipe& recipe) {
  job::JobOptions options;
  options.request = recipe.request;
  options.latents_file = recipe.latents_file;
  options.engine = recipe.engine;
  return options;
}

// The fields that come from the recipe and from nowhere else.
job::FieldSource source_of(const Recipe& recipe, const job::Request& given) {
  job::FieldSource source{.name = recipe.source, .prefix = "request.", .fields = {}};
  for (const std::string& field : job::given_fields(recipe.request)) {
    if (!job::is_given(given, field)) source.fields.push_back(field);
  }
  return source;
}

JobInput follow(const Recipe& recipe, const GenerateOptions& given) {
  JobInput input{.options = job::overlay(options_of(recipe), given.job),
                 .source = source_of(recipe, given.job.request)};
  if (!job::changes_latents(given.job.request)) input.evaluated_steps = recipe.evaluated_steps;
  return input;
}

RunInputs read_resumed(const GenerateOptions& given) {
  const fs::path path = find_checkpoint(given);
  job::SamplingCheckpoint checkpoint = job::read_checkpoint(path);
  Recipe recipe = job::parse_recipe(checkpoint.recipe, path.string());
  JobInput input = follow(recipe, given);
  job::JobOptions& options = input.options;
  if (!given.job.output) options.output = job::output_of_checkpoint(path, recipe.output);
  if (!given.job.save_latents) options.save_latents = recipe.save_latents;
  if (!given.job.checkpoint_every) options.checkpoint_every = recipe.checkpoint_every;
  input.start = std::move(checkpoint.state);
  input.checkpoint = path;
  input.checkpoint_recipe = std::move(checkpoint.recipe);
  return {.videos = {std::move(input)}, .recipe = std::move(recipe)};
}

// Latents that the program wrote know their model and their frame rate.
RunInputs read_decoded(const GenerateOptions& given, const fs::path& path) {
  const std::optional<Json> json = job::read_latents_file(path).recipe(path);
  if (!json) return {.videos = {{.options = given.job}}, .recipe = std::nullopt};
  Recipe recipe = job::parse_recipe_for_decoding(*json, path.string());
  std::error_code ignored;
  const fs::path& dir = recipe.engine.model_dir;
  if (given.job.engine.model_dir.empty() && !dir.empty() && !fs::exists(dir, ignored)) {
    fail("'{}': its model '{}' no longer exists; give one with --model-dir", path.string(),
         dir.string());
  }
  return {.videos = {follow(recipe, given)}, .recipe = std::move(recipe)};
}

}  // namespace

RunInputs read_inputs(const GenerateOptions& given) {
  const bool has_place = given.job.output || (given.run.resumes && given.run.checkpoint);
  if (given.job.out_dir && has_place) {
    throw flags::UsageError(fmt::format("--out-dir has no effect with {}",
                                        given.job.output ? "--out" : "--resume FILE"));
  }
  if (given.run.sweep_file) {
    return {.videos = read_sweep(given, *given.run.sweep_file), .recipe = std::nullopt};
  }
  if (given.run.resumes) return read_resumed(given);
  if (given.job.latents_file) return read_decoded(given, *given.job.latents_file);
  if (!given.run.recipe) return {.videos = {{.options = given.job}}, .recipe = std::nullopt};
  Recipe recipe =
      job::parse_recipe(read_json(*given.run.recipe, was_interrupted), given.run.recipe->string());
  return {.videos = {follow(recipe, given)}, .recipe = std::move(recipe)};
}

}  // namespace mochi::cli
