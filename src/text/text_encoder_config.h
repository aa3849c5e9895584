// Sizes of the T5 encoder. The defaults are those of T5 v1.1 XXL.
#pragma once

#include <cstdint>

namespace mochi {

class JsonReader;
class TensorSource;

struct TextEncoderConfig {
  std::int64_t num_layers = 24;
  std::int64_t hidden_size = 4096;
  std::int64_t num_heads = 64;
  std::int64_t head_dim = 64;  // num_heads · head_dim need not be hidden_size
  std::int64_t feed_forward_size = 10240;
  std::int64_t num_buckets = 32;    // of relative positions
  std::int64_t max_distance = 128;  // beyond it all positions share a bucket
  std::int64_t vocab_size = 32128;

  // Throws Error naming the field when a size is not positive or does not fit the others.
  void validate() const;
};

// Reads the "text_encoder" section of a config.json; absent keys keep their defaults, unknown ones
// are errors. The result is valid.
TextEncoderConfig parse_text_encoder_config(JsonReader& section);

// For checkpoints without a config.json: what the tensors' shapes show (all but max_distance).
TextEncoderConfig infer_text_encoder_config(const TensorSource& source);

}  // namespace mochi
