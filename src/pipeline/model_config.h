// All sizes of a model, and its generation defaults.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "dit/dit_config.h"
#include "text/text_encoder_config.h"
#include "vae/vae_config.h"

namespace mochi {

// Defaults: Mochi 1 preview's.
struct GenerationDefaults {
  int width = 848;
  int height = 480;
  int num_frames = 163;
  int fps = 30;
  int num_steps = 64;
  double cfg_scale = 6.0;
  double threshold_noise = 0.025;
  int linear_steps = 0;  // 0: half of num_steps
  std::string negative_prompt;
  // For a first try without a prompt.
  std::string prompt =
      "a paper boat drifts down a narrow stream between mossy stones, morning light on the water";
};

// The least and the largest value that a model saw in training; 0: not known.
struct SeenRange {
  int least = 0;
  int largest = 0;
};

// The sizes and subjects of a model's training videos. Mochi 1's are unknown.
struct TrainedOn {
  SeenRange width, height, num_frames;
  // Every word of its captions, in lower case and sorted; empty: not known.
  std::vector<std::string> words;
};

struct ModelConfig {
  DitConfig dit;
  TextEncoderConfig text_encoder;
  VaeConfig vae;
  GenerationDefaults generation;
  TrainedOn trained_on;

  // Throw Error if two networks do not fit together; validate() looks at all.
  void check_text_width() const;
  void check_latent_channels() const;
  void validate() const;
};

// Returns true if a JSON file is a config.json of this program. transformers and diffusers use the
// name, too: their files have another "model_type", or none and no section of this program.
bool is_model_config(const std::filesystem::path& path);

// Reads a config.json of ours. Sections and keys that are absent keep the defaults, unknown ones
// are errors.
ModelConfig read_model_config(const std::filesystem::path& path);

// Variants for the content of a file; `path` names it in messages.
bool is_model_config(std::string_view content, const std::filesystem::path& path);
ModelConfig parse_model_config(std::string_view content, const std::filesystem::path& path);

}  // namespace mochi
