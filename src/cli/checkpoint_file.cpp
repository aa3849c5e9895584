#include "cli/checkpoint_file.h"

#include <charconv>

#include "base/error.h"
#include "cli/latents_file.h"
#include "io/safetensors.h"

namespace mochi::cli {
namespace {

constexpr const char* kStepsKey = "num_steps_done";
constexpr const char* kRecipeKey = "recipe";

}  // namespace

SamplingCheckpoint read_checkpoint(const std::filesystem::path& path) {
  SamplingCheckpoint checkpoint;
  checkpoint.state.latents = read_latents(path, &checkpoint.state.caches);
  const SafetensorsFile file(path);
  for (const char* key : {kStepsKey, kRecipeKey}) {
    if (!file.metadata().contains(key)) {
      fail("'{}' is no checkpoint: its metadata have no '{}'", path.string(), key);
    }
  }
  const std::string& steps = file.metadata().at(kStepsKey);
  const auto [end, error] =
      std::from_chars(steps.data(), steps.data() + steps.size(), checkpoint.state.num_steps_done);
  if (error != std::errc() || end != steps.data() + steps.size()) {
    fail("'{}': metadata '{}': wanted a number, found '{}'", path.string(), kStepsKey, steps);
  }
  checkpoint.recipe = parse_json(file.metadata().at(kRecipeKey), path.string());
  return checkpoint;
}

void write_checkpoint(const std::filesystem::path& path, const SamplerState& state,
                      const nlohmann::ordered_json& recipe) {
  write_latents(path, state.latents,
                {{kStepsKey, std::to_string(state.num_steps_done)}, {kRecipeKey, recipe.dump()}},
                state.caches);
}

}  // namespace mochi::cli
