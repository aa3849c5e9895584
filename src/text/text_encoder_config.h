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
  std::int64_t num_buckets = 32;    // number of buckets for relative positions
  std::int64_t max_distance = 128;  // larger distances share a bucket
  std::int64_t vocab_size = 32128;

  // Throws an Error that names the field if a size is not positive or does not fit the others.
  void validate() const;
};

// Reads the "text_encoder" section of a config.json. Missing keys keep their defaults; unknown keys
// are errors. The result is valid.
TextEncoderConfig parse_text_encoder_config(JsonReader& section);

// Infers the configuration from the tensors' shapes, for checkpoints without a config.json. They
// determine all sizes but max_distance.
TextEncoderConfig infer_text_encoder_config(const TensorSource& source);

}  // namespace mochi
