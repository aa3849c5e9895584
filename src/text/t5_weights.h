// Parameters of the T5 encoder, under their names in transformers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/text_encoder_config.h"
#include "weights/weights.h"

namespace mochi {

struct T5LayerWeights {
  TensorView attention_norm;  // [hidden_size]
  LinearWeights q, k, v, o;
  TensorView feed_forward_norm;  // [hidden_size]
  LinearWeights wi;              // [2·feed_forward_size, hidden_size]: gate rows, then value rows
  LinearWeights wo;
};

struct T5Weights {
  explicit T5Weights(const TextEncoderConfig& config);

  TextEncoderConfig config;
  TensorView embedding;      // [vocab_size, hidden_size] matrix
  TensorView relative_bias;  // [num_buckets, num_heads] f32, shared by all layers
  std::vector<T5LayerWeights> layers;
  TensorView final_norm;  // [hidden_size]

  void visit(const WeightVisitor& visitor);
};

// Returns for example "encoder.block.3.layer.".
std::string t5_layer_prefix(std::int64_t layer);

// Returns the name of the token table in a checkpoint, which is one of two common names.
std::string t5_embedding_key(const TensorSource& checkpoint);

// Returns the checkpoint under the names of T5Weights: wi_0 and wi_1 of each layer are joined to
// wi, and the token table has one name.
std::shared_ptr<TensorSource> make_t5_source(std::shared_ptr<const TensorSource> checkpoint,
                                             const TextEncoderConfig& config);

}  // namespace mochi
