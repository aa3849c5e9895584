// The T5 encoder, which maps token ids to features.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "text/t5_weights.h"

namespace mochi {

class T5Encoder {
 public:
  // The views in `weights` must stay valid.
  T5Encoder(Backend& backend, T5Weights weights);

  const TextEncoderConfig& config() const { return weights_.config; }

  // Computes features [ids.size(), hidden_size] of at least one token. All tokens attend to each
  // other; there is no padding, so nothing has to be masked.
  void encode(Context& ctx, std::span<const std::int32_t> ids, const TensorView& features) const;

 private:
  // Returns [num_heads, n, n] f32 in ctx.scratch, which all layers share.
  TensorView make_attention_bias(Context& ctx, std::int64_t num_tokens) const;
  void run_attention(Context& ctx, const T5LayerWeights& layer, const TensorView& bias,
                     const TensorView& x) const;
  void run_feed_forward(Context& ctx, const T5LayerWeights& layer, const TensorView& x) const;

  T5Weights weights_;
  std::vector<float> bias_table_;  // [num_buckets, num_heads], on the host
};

// Returns the bucket of a relative position (key − query). The lower half of num_buckets is for
// keys at or before the query, the upper half for keys after it. Each half has buckets for exact
// distances first, then logarithmic ones up to max_distance.
std::int64_t relative_position_bucket(std::int64_t distance, std::int64_t num_buckets,
                                      std::int64_t max_distance);

}  // namespace mochi
