// The T5 encoder: token ids → features.
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

  // features [ids.size(), hidden_size] of at least one token. All tokens attend to each other:
  // padding is never given, so nothing has to be masked.
  void encode(Context& ctx, std::span<const std::int32_t> ids, const TensorView& features) const;

 private:
  // [num_heads, n, n] f32 in ctx.scratch: the same in every layer.
  TensorView make_attention_bias(Context& ctx, std::int64_t num_tokens) const;
  void run_attention(Context& ctx, const T5LayerWeights& layer, const TensorView& bias,
                     const TensorView& x) const;
  void run_feed_forward(Context& ctx, const T5LayerWeights& layer, const TensorView& x) const;

  T5Weights weights_;
  std::vector<float> bias_table_;  // [num_buckets, num_heads], on the host
};

// The bucket of a relative position (key − query): of num_buckets, the lower half for keys at or
// before the query, the upper half behind it; in each half exact distances first, then
// logarithmic ones up to max_distance.
std::int64_t relative_position_bucket(std::int64_t distance, std::int64_t num_buckets,
                                      std::int64_t max_distance);

}  // namespace mochi
