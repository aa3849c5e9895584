#include "text/t5_weights.h"

#include <utility>

namespace mochi {
namespace {

constexpr const char* kEmbeddingKey = "shared.weight";
constexpr const char* kEmbeddingAlias = "encoder.embed_tokens.weight";

}  // namespace

std::string t5_layer_prefix(std::int64_t layer) {
  return "encoder.block." + std::to_string(layer) + ".layer.";
}

std::string t5_embedding_key(const TensorSource& checkpoint) {
  const bool has_alias_only =
      !checkpoint.contains(kEmbeddingKey) && checkpoint.contains(kEmbeddingAlias);
  return has_alias_only ? kEmbeddingAlias : kEmbeddingKey;
}

T5Weights::T5Weights(const TextEncoderConfig& sizes)
    : config(sizes), layers(static_cast<std::size_t>(sizes.num_layers)) {}

void T5Weights::visit(const WeightVisitor& visitor) {
  const std::int64_t width = config.hidden_size;
  const std::int64_t inner = config.num_heads * config.head_dim;
  visitor(kEmbeddingKey, embedding, {config.vocab_size, width}, WeightRole::kMatrix);
  visitor(t5_layer_prefix(0) + "0.SelfAttention.relative_attention_bias.weight", relative_bias,
          {config.num_buckets, config.num_heads}, WeightRole::kVector);
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    T5LayerWeights& layer = layers[static_cast<std::size_t>(i)];
    const std::string prefix = t5_layer_prefix(i);
    const std::string attention = prefix + "0.SelfAttention.";
    const std::string feed_forward = prefix + "1.DenseReluDense.";
    visitor(prefix + "0.layer_norm.weight", layer.attention_norm, {width}, WeightRole::kVector);
    layer.q.visit(visitor, attention + "q", inner, width, false);
    layer.k.visit(visitor, attention + "k", inner, width, false);
    layer.v.visit(visitor, attention + "v", inner, width, false);
    layer.o.visit(visitor, attention + "o", width, inner, false);
    visitor(prefix + "1.layer_norm.weight", layer.feed_forward_norm, {width}, WeightRole::kVector);
    layer.wi.visit(visitor, feed_forward + "wi", 2 * config.feed_forward_size, width, false);
    layer.wo.visit(visitor, feed_forward + "wo", width, config.feed_forward_size, false);
  }
  visitor("encoder.final_layer_norm.weight", final_norm, {width}, WeightRole::kVector);
}

std::shared_ptr<TensorSource> make_t5_source(std::shared_ptr<const TensorSource> checkpoint,
                                             const TextEncoderConfig& config) {
  KeyMappedSource::KeyMap map;
  for (const auto& [name, shape] : list_parameters(T5Weights(config))) map[name] = {{name}};
  map[kEmbeddingKey] = {{t5_embedding_key(*checkpoint)}};
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = t5_layer_prefix(layer) + "1.DenseReluDense.";
    map[prefix + "wi.weight"] = {{prefix + "wi_0.weight"}, {prefix + "wi_1.weight"}};
  }
  // Whole T5 models also contain a decoder, which is not used. Only unread tensors of the blocks
  // are reported.
  return std::make_shared<KeyMappedSource>(std::move(checkpoint), std::move(map), "encoder.block.");
}

}  // namespace mochi
