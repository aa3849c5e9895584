// Sizes of the diffusion transformer. The defaults are those of Mochi 1 preview.
#pragma once

#include <cstdint>

namespace mochi {

class JsonReader;
class TensorSource;

struct DitConfig {
  std::int64_t depth = 48;
  std::int64_t num_heads = 24;
  std::int64_t hidden_size_x = 3072;  // visual width; head_dim = hidden_size_x / num_heads
  std::int64_t hidden_size_y = 1536;  // text width
  std::int64_t mlp_hidden_x = 8192;
  std::int64_t mlp_hidden_y = 4096;
  std::int64_t patch_size = 2;  // spatial
  std::int64_t latent_channels = 12;
  std::int64_t text_width = 4096;  // width of the text encoder's features
  std::int64_t max_text_tokens = 256;
  std::int64_t timestep_features = 256;
  std::int64_t pooler_heads = 8;

  std::int64_t head_dim() const { return hidden_size_x / num_heads; }

  // Throws an Error that names the field if a size is not positive or does not fit the others.
  void validate() const;
};

// Reads the "dit" section of a config.json. Missing keys keep their defaults; unknown keys are
// errors. The result is valid.
DitConfig parse_dit_config(JsonReader& section);

// Infers the configuration from the tensors' shapes, for checkpoints without a config.json. They
// determine all sizes but max_text_tokens and pooler_heads.
DitConfig infer_dit_config(const TensorSource& source);

}  // namespace mochi
