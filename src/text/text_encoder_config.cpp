#include "text/text_encoder_config.h"

#include <utility>

#include "base/error.h"
#include "io/json.h"
#include "io/tensor_source.h"
#include "text/t5_weights.h"

namespace mochi {
namespace {

// Visits every size with its key in config.json.
template <typename Config, typename Visit>
void visit_sizes(Config& config, const Visit& visit) {
  visit("num_layers", config.num_layers);
  visit("hidden_size", config.hidden_size);
  visit("num_heads", config.num_heads);
  visit("head_dim", config.head_dim);
  visit("feed_forward_size", config.feed_forward_size);
  visit("num_buckets", config.num_buckets);
  visit("max_distance", config.max_distance);
  visit("vocab_size", config.vocab_size);
}

}  // namespace

void TextEncoderConfig::validate() const {
  constexpr std::int64_t kMaxSize = 1 << 24;
  // Limit, because each layer allocates memory before any weight is read.
  constexpr std::int64_t kMaxLayers = 1024;
  visit_sizes(*this, [&](const char* name, const std::int64_t& size) {
    const std::int64_t max = &size == &num_layers ? kMaxLayers : kMaxSize;
    if (size < 1 || size > max) fail("text_encoder.{}: wanted 1 to {}, found {}", name, max, size);
  });
  // Half of the buckets are for each direction, and half of those for exact distances.
  if (num_buckets % 4 != 0) {
    fail("text_encoder.num_buckets: wanted a multiple of 4, found {}", num_buckets);
  }
  if (max_distance <= num_buckets / 4) {
    fail("text_encoder.max_distance: wanted more than {} (num_buckets / 4), found {}",
         num_buckets / 4, max_distance);
  }
}

TextEncoderConfig parse_text_encoder_config(JsonReader& section) {
  TextEncoderConfig config;
  visit_sizes(config, [&section](const char* name, std::int64_t& size) {
    size = section.get_int(name, size);
  });
  section.finish();
  config.validate();
  return config;
}

TextEncoderConfig infer_text_encoder_config(const TensorSource& source) {
  TextEncoderConfig config;
  const std::string first = t5_layer_prefix(0);
  const Shape table = source.require_rank(t5_embedding_key(source), 2);
  const Shape bias =
      source.require_rank(first + "0.SelfAttention.relative_attention_bias.weight", 2);
  const Shape query = source.require_rank(first + "0.SelfAttention.q.weight", 2);
  const Shape gate = source.require_rank(first + "1.DenseReluDense.wi_0.weight", 2);
  config.vocab_size = table[0];
  config.hidden_size = table[1];
  config.num_buckets = bias[0];
  config.num_heads = bias[1];
  if (config.num_heads == 0 || query[0] % config.num_heads != 0) {
    fail("tensor '{}0.SelfAttention.q.weight' in {}: {} rows do not divide into {} heads", first,
         source.description(), query[0], config.num_heads);
  }
  config.head_dim = query[0] / config.num_heads;
  config.feed_forward_size = gate[0];
  config.num_layers = 1;
  while (source.contains(t5_layer_prefix(config.num_layers) + "0.layer_norm.weight")) {
    ++config.num_layers;
  }
  config.validate();
  return config;
}

}  // namespace mochi
