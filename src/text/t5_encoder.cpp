#include "text/t5_encoder.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace mochi {
namespace {

constexpr float kNormEps = 1e-6F;

}  // namespace

std::int64_t relative_position_bucket(std::int64_t distance, std::int64_t num_buckets,
                                      std::int64_t max_distance) {
  const std::int64_t half = num_buckets / 2;
  const std::int64_t offset = distance > 0 ? half : 0;
  const std::int64_t length = std::abs(distance);
  const std::int64_t num_exact = half / 2;
  if (length < num_exact) return offset + length;
  // In fp32, as the model was trained: at the edges of the buckets the rounding decides.
  const float position = std::log(static_cast<float>(length) / static_cast<float>(num_exact)) /
                         static_cast<float>(std::log(static_cast<double>(max_distance) /
                                                     static_cast<double>(num_exact))) *
                         static_cast<float>(half - num_exact);
  const std::int64_t bucket = num_exact + static_cast<std::int64_t>(position);
  return offset + std::min(bucket, half - 1);
}

T5Encoder::T5Encoder(Backend& backend, T5Weights weights)
    : weights_(std::move(weights)),
      bias_table_(static_cast<std::size_t>(weights_.relative_bias.num_elements())) {
  const TensorView table(bias_table_.data(), DType::kF32, weights_.relative_bias.shape());
  backend.run(ops::Download{.source = weights_.relative_bias, .host = table});
}

TensorView T5Encoder::make_attention_bias(Context& ctx, std::int64_t num_tokens) const {
  const TextEncoderConfig& config = weights_.config;
  const auto num_heads = static_cast<std::size_t>(config.num_heads);
  const auto n = static_cast<std::size_t>(num_tokens);
  const Tensor host(DType::kF32, {config.num_heads, num_tokens, num_tokens});
  const std::span<float> values = host.view().f32();
  // The bias depends on key − query alone: of each head, one row of 2·n − 1 values holds them all,
  // and every query's row is a piece of it.
  std::vector<float> by_distance(num_heads * (2 * n - 1));
  for (std::size_t i = 0; i < 2 * n - 1; ++i) {
    const std::int64_t distance = static_cast<std::int64_t>(i) - (num_tokens - 1);
    const auto bucket = static_cast<std::size_t>(
        relative_position_bucket(distance, config.num_buckets, config.max_distance));
    for (std::size_t head = 0; head < num_heads; ++head) {
      by_distance[head * (2 * n - 1) + i] = bias_table_[bucket * num_heads + head];
    }
  }
  for (std::size_t head = 0; head < num_heads; ++head) {
    for (std::size_t query = 0; query < n; ++query) {
      std::copy_n(by_distance.data() + head * (2 * n - 1) + (n - 1 - query), n,
                  values.data() + (head * n + query) * n);
    }
  }
  const TensorView bias = ctx.scratch.allocate(DType::kF32, host.view().shape());
  ctx.run(ops::Upload{.host = host, .target = bias});
  return bias;
}

void T5Encoder::run_attention(Context& ctx, const T5LayerWeights& layer, const TensorView& bias,
                              const TensorView& x) const {
  const Arena::Scope scope(ctx.scratch);
  const TextEncoderConfig& config = weights_.config;
  const std::int64_t num_tokens = x.dim(0);
  const std::int64_t inner = config.num_heads * config.head_dim;
  const TensorView normed = ctx.activation(x.shape());
  ctx.run(ops::RmsNorm{.x = x, .weight = layer.attention_norm, .eps = kNormEps, .out = normed});

  const auto project = [&](const LinearWeights& weights) {
    const TensorView projected = ctx.activation({num_tokens, inner});
    ctx.run(ops::Linear{.x = normed, .weight = weights.weight, .out = projected});
    return HeadsView(projected, config.num_heads, config.head_dim);
  };
  AttentionInputs in;  // T5 was trained without a scale on the logits
  in.q = project(layer.q);
  in.k = project(layer.k);
  in.v = project(layer.v);
  in.bias = bias;
  const TensorView attended = ctx.activation({num_tokens, inner});
  ctx.run(ops::Attention{.in = in, .to = {attended}});
  ctx.run(ops::Linear{.x = attended, .weight = layer.o.weight, .out = x, .accumulate = true});
}

void T5Encoder::run_feed_forward(Context& ctx, const T5LayerWeights& layer,
                                 const TensorView& x) const {
  const Arena::Scope scope(ctx.scratch);
  const std::int64_t size = weights_.config.feed_forward_size;
  const TensorView normed = ctx.activation(x.shape());
  const TensorView gated = ctx.activation({x.dim(0), size});
  ctx.run(ops::RmsNorm{.x = x, .weight = layer.feed_forward_norm, .eps = kNormEps, .out = normed});
  ctx.run(ops::GatedLinear{.x = normed,
                           .weight = layer.wi.weight,
                           .activation = Activation::kGeluTanh,
                           .scratch = ctx.scratch,
                           .out = gated});
  ctx.run(ops::Linear{.x = gated, .weight = layer.wo.weight, .out = x, .accumulate = true});
}

void T5Encoder::encode(Context& ctx, std::span<const std::int32_t> ids,
                       const TensorView& features) const {
  const Arena::Scope scope(ctx.scratch);
  const auto num_tokens = static_cast<std::int64_t>(ids.size());
  const TensorView x = ctx.activation({num_tokens, weights_.config.hidden_size});
  ctx.run(ops::Embedding{.ids = ids, .table = weights_.embedding, .out = x});
  const TensorView bias = make_attention_bias(ctx, num_tokens);
  for (const T5LayerWeights& layer : weights_.layers) {
    ctx.check_stop();
    run_attention(ctx, layer, bias, x);
    run_feed_forward(ctx, layer, x);
  }
  ctx.run(ops::RmsNorm{.x = x, .weight = weights_.final_norm, .eps = kNormEps, .out = features});
}

}  // namespace mochi
