#include "job/checkpoint_file.h"

#include <charconv>
#include <utility>

#include "base/error.h"
#include "io/safetensors.h"
#include "job/latents_file.h"

namespace mochi::job {
namespace {

constexpr const char* kStepsKey = "num_steps_done";
constexpr const char* kCheckpointRecipeKey = "recipe";

int parse_steps(const std::string& text, const std::string& path) {
  int steps = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), steps);
  if (error == std::errc() && end == text.data() + text.size()) return steps;
  fail("'{}': metadata '{}': wanted a number, found '{}'", path, kStepsKey, text);
}

}  // namespace

SamplingCheckpoint read_checkpoint(const std::filesystem::path& path) {
  LatentsFile file = read_latents_file(path);
  for (const char* key : {kStepsKey, kCheckpointRecipeKey}) {
    if (!file.metadata.contains(key)) {
      fail("'{}' is no checkpoint: its metadata have no '{}'", path.string(), key);
    }
  }
  if (!file.has_checksum) {
    fail("'{}' has no checksum: it was written by an earlier version, or changed", path.string());
  }
  const int num_steps_done = parse_steps(file.metadata.at(kStepsKey), path.string());
  return {.state = {.num_steps_done = num_steps_done,
                    .latents = std::move(file.latents),
                    .caches = std::move(file.caches)},
          .recipe = file.recipe(path).value_or(Json())};
}

bool is_checkpoint(const std::filesystem::path& path) {
  try {
    const SafetensorsFile file(path);
    return file.metadata().contains(kStepsKey) && file.metadata().contains(kCheckpointRecipeKey);
  } catch (const Error&) {
    return false;
  }
}

void write_checkpoint(const std::filesystem::path& path, const SamplerState& state,
                      const nlohmann::ordered_json& recipe) {
  write_latents_file(
      path, state.latents,
      {{kStepsKey, std::to_string(state.num_steps_done)}, {kCheckpointRecipeKey, recipe.dump()}},
      state.caches);
}

}  // namespace mochi::job
