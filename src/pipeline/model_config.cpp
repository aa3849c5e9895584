#include "pipeline/model_config.h"

#include <algorithm>
#include <array>
#include <string>

#include "base/error.h"
#include "base/mapped_file.h"
#include "io/json.h"

namespace mochi {
namespace {

int get_count(JsonReader& section, const std::string& key, int fallback, int least,
              std::int64_t most = 1 << 20) {
  const std::int64_t value = section.get_int(key, fallback);
  if (value < least || value > most) {
    fail("{}: wanted {} to {}, found {}", section.locate(key), least, most, value);
  }
  return static_cast<int>(value);
}

GenerationDefaults parse_generation(JsonReader& section) {
  constexpr std::int64_t kMaxFps = 1000;  // that of parse_frame_rate()
  GenerationDefaults generation;
  generation.width = get_count(section, "width", generation.width, 1);
  generation.height = get_count(section, "height", generation.height, 1);
  generation.num_frames = get_count(section, "num_frames", generation.num_frames, 1);
  generation.fps = get_count(section, "fps", generation.fps, 1, kMaxFps);
  generation.num_steps = get_count(section, "num_steps", generation.num_steps, 1);
  generation.linear_steps = get_count(section, "linear_steps", generation.linear_steps, 0);
  generation.cfg_scale = section.get_float("cfg_scale", generation.cfg_scale);
  generation.threshold_noise = section.get_float("threshold_noise", generation.threshold_noise);
  generation.negative_prompt = section.get_string("negative_prompt", generation.negative_prompt);
  generation.prompt = section.get_string("prompt", generation.prompt);
  section.finish();
  return generation;
}

// [least, largest]
SeenRange get_range(JsonReader& section, const std::string& key) {
  constexpr std::int64_t kMaxValue = 1 << 20;
  if (!section.has(key)) return {};
  const std::vector<std::int64_t> values = section.get_ints(key, {});
  if (values.size() != 2 || values[0] < 1 || values[1] < values[0] || values[1] > kMaxValue) {
    fail("{}: wanted the least and the largest value that were seen, 1 to {}", section.locate(key),
         kMaxValue);
  }
  return {static_cast<int>(values[0]), static_cast<int>(values[1])};
}

TrainedOn parse_trained_on(JsonReader& section) {
  TrainedOn seen{.width = get_range(section, "width"),
                 .height = get_range(section, "height"),
                 .num_frames = get_range(section, "num_frames"),
                 .words = section.get_strings("words", {})};
  section.finish();
  std::ranges::sort(seen.words);
  return seen;
}

constexpr const char* kModelType = "mochi";
constexpr std::array kSections{"dit", "text_encoder", "vae", "generation", "trained_on"};

}  // namespace

void ModelConfig::check_text_width() const {
  if (dit.text_width != text_encoder.hidden_size) {
    fail("the transformer wants text features of width {}, the text encoder gives {}",
         dit.text_width, text_encoder.hidden_size);
  }
}

void ModelConfig::check_latent_channels() const {
  if (dit.latent_channels != vae.latent_channels) {
    fail("the transformer works on {} latent channels, the video decoder on {}",
         dit.latent_channels, vae.latent_channels);
  }
}

void ModelConfig::validate() const {
  check_text_width();
  check_latent_channels();
}

bool is_model_config(std::string_view content, const std::filesystem::path& path) {
  const Json json = parse_json_file(content, path);
  if (!json.is_object()) return true;  // so that it is refused
  if (const auto type = json.find("model_type"); type != json.end()) {
    return *type == Json(kModelType);
  }
  return std::ranges::any_of(kSections, [&](const char* name) { return json.contains(name); });
}

ModelConfig parse_model_config(std::string_view content, const std::filesystem::path& path) {
  const Json json = parse_json_file(content, path);
  JsonReader root(json, path.string());
  const std::string model_type = root.require_string("model_type");
  if (model_type != kModelType) {
    fail("{}: wanted '{}', found '{}'", root.locate("model_type"), kModelType, model_type);
  }
  ModelConfig config;
  try {
    if (auto section = root.get_object("dit")) config.dit = parse_dit_config(*section);
    if (auto section = root.get_object("text_encoder")) {
      config.text_encoder = parse_text_encoder_config(*section);
    }
    if (auto section = root.get_object("vae")) config.vae = parse_vae_config(*section);
    if (auto section = root.get_object("generation"))
      config.generation = parse_generation(*section);
    if (auto section = root.get_object("trained_on"))
      config.trained_on = parse_trained_on(*section);
    root.finish();
    config.validate();
  } catch (const Error& error) {
    // Checks on sizes that fit badly know the field, not the file.
    const std::string message = error.what();
    if (message.starts_with(path.string())) throw;
    throw Error(path.string() + ": " + message);
  }
  return config;
}

bool is_model_config(const std::filesystem::path& path) {
  return is_model_config(MappedFile(path).text(), path);
}

ModelConfig read_model_config(const std::filesystem::path& path) {
  return parse_model_config(MappedFile(path).text(), path);
}

}  // namespace mochi
