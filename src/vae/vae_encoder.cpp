#include "vae/vae_encoder.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"
#include "vae/vae_blocks.h"

namespace mochi {
namespace {

std::vector<double> inverse(const std::vector<double>& values) {
  std::vector<double> result(values);
  for (double& value : result) value = 1.0 / value;
  return result;
}

// Returns the input shape of each stage of the encoder, [frames, rows, columns, channels].
std::vector<Shape> stage_shapes(const VaeConfig& config, const Shape& frames) {
  std::vector<Shape> shapes{{frames[0], frames[1], frames[2], config.encoder_channels[0]}};
  const auto num_down = static_cast<std::size_t>(config.num_up_blocks());
  for (std::size_t down = 0; down < num_down; ++down) {
    const Shape& from = shapes.back();
    const std::int64_t temporal = config.temporal_factors[num_down - 1 - down];
    const std::int64_t spatial = config.spatial_factors[num_down - 1 - down];
    shapes.push_back({(from[0] - 1) / temporal + 1, from[1] / spatial, from[2] / spatial,
                      config.encoder_channels[down + 1]});
  }
  return shapes;
}

}  // namespace

VaeEncoder::VaeEncoder(Backend& backend, VaeEncoderWeights weights)
    : weights_(std::move(weights)),
      latent_scale_(vae::upload_vector(backend, inverse(config().latent_std))),
      latent_mean_(vae::upload_vector(backend, config().latent_mean)) {
  const auto num_outputs = static_cast<std::size_t>(2 * config().latent_channels);
  identity_scale_ = vae::upload_vector(backend, std::vector<double>(num_outputs, 1.0));
  identity_shift_ = vae::upload_vector(backend, std::vector<double>(num_outputs, 0.0));
}

Shape VaeEncoder::latent_shape(const Shape& frames) const {
  const std::int64_t scale = config().spatial_compression();
  const bool fits = frames.rank() == 4 && frames[3] == vae::kRgb && frames[1] > 0 &&
                    frames[2] > 0 && frames[1] % scale == 0 && frames[2] % scale == 0;
  if (!fits) {
    fail(
        "VAE encoder: wanted frames [{}·k + 1, rows, columns, 3] with rows and columns multiples "
        "of {}, found {}",
        config().temporal_compression(), scale, frames.to_string());
  }
  return {config().latent_channels, config().num_latent_frames(frames[0]), frames[1] / scale,
          frames[2] / scale};
}

void VaeEncoder::run_input(Context& ctx, const TensorView& frames, const TensorView& x) const {
  const std::vector<int> frequencies(config().fourier_frequencies.begin(),
                                     config().fourier_frequencies.end());
  const std::int64_t num_features =
      vae::kRgb * (1 + 2 * static_cast<std::int64_t>(frequencies.size()));
  const std::int64_t slice = vae::frames_per_slice(ctx.backend, x.dim(1) * x.dim(2) * num_features);
  for (std::int64_t begin = 0; begin < x.dim(0); begin += slice) {
    ctx.check_stop();
    const std::int64_t end = std::min(begin + slice, x.dim(0));
    const Arena::Scope scope(ctx.scratch);
    const TensorView features = ctx.activation({end - begin, x.dim(1), x.dim(2), num_features});
    ctx.run(ops::FourierFeatures{
        .x = frames.rows(begin, end), .frequencies = frequencies, .out = features});
    vae::run_pixelwise(ctx, features, weights_.input.weight.values(), weights_.input.bias,
                       x.rows(begin, end));
  }
}

void VaeEncoder::run_attention(Context& ctx, const AttentionBlockWeights& weights,
                               const TensorView& x) const {
  const Arena::Scope scope(ctx.scratch);
  const TensorView attended = ctx.activation(x.shape());
  const TensorView qkv = ctx.activation({x.dim(0), x.dim(1), x.dim(2), 3 * x.dim(3)});
  ctx.run(ops::GroupNorm{.x = x,
                         .weight = weights.norm.weight,
                         .bias = weights.norm.bias,
                         .num_groups = static_cast<int>(config().norm_groups),
                         .activation = Activation::kNone,
                         .out = attended});
  vae::run_pixelwise(ctx, attended, weights.qkv.weight.values(), {}, qkv);
  ctx.run(ops::TemporalAttention{.qkv = qkv,
                                 .head_dim = static_cast<int>(config().encoder_attention_head_dim),
                                 .out = attended});
  vae::run_pixelwise(ctx, attended, weights.out.weight.values(), weights.out.bias, x,
                     /*accumulate=*/true);
}

void VaeEncoder::run_stage(Context& ctx, const EncoderStageWeights& stage,
                           const TensorView& x) const {
  for (std::size_t i = 0; i < stage.res_blocks.size(); ++i) {
    ctx.check_stop();
    {
      const Arena::Scope scope(ctx.scratch);
      const vae::ResBlockCache cache{ctx.activation(vae::cache_shape(x.shape())),
                                     ctx.activation(vae::cache_shape(x.shape()))};
      vae::run_res_block(ctx, stage.res_blocks[i], config().norm_groups, cache, /*is_start=*/true,
                         x);
    }
    if (!stage.attention_blocks.empty()) run_attention(ctx, stage.attention_blocks[i], x);
  }
}

// Recurses to the first stage before computing, so that the larger tensors of earlier stages are on
// top of the scratch stack and are freed when a stage is complete.
void VaeEncoder::fill_stage_input(Context& ctx, std::size_t stage, const TensorView& frames,
                                  const TensorView& x) const {
  if (stage == 0) return run_input(ctx, frames, x);
  const EncoderStageWeights& weights = weights_.stages[stage];
  const Shape kernel = weights.down.weight.shape();
  const Shape before = stage_shapes(config(), frames.shape())[stage - 1];
  const std::int64_t num_past = kernel[2] - 1;
  const Arena::Scope scope(ctx.scratch);
  const TensorView padded = ctx.activation({num_past + before[0], before[1], before[2], before[3]});
  const TensorView present = padded.rows(num_past, padded.dim(0));
  fill_stage_input(ctx, stage - 1, frames, present);
  run_stage(ctx, weights_.stages[stage - 1], present);
  for (std::int64_t i = 0; i < num_past; ++i) {
    ctx.run(ops::Copy{.source = present.rows(0, 1), .target = padded.rows(i, i + 1)});
  }
  ctx.run(ops::Conv3d{.x = padded,
                      .weight = weights.down.weight,
                      .bias = weights.down.bias,
                      .stride = {static_cast<int>(kernel[2]), static_cast<int>(kernel[3]),
                                 static_cast<int>(kernel[4])},
                      .out = x});
}

TensorView VaeEncoder::forward(Context& ctx, const TensorView& frames) const {
  const Shape shape = stage_shapes(config(), frames.shape()).back();
  const TensorView out =
      ctx.activation({shape[0], shape[1], shape[2], 2 * config().latent_channels});
  const Arena::Scope scope(ctx.scratch);
  const TensorView normed = ctx.activation(shape);
  const TensorView x = ctx.activation(shape);
  const std::size_t last_down = weights_.stages.size() - 2;
  fill_stage_input(ctx, last_down, frames, x);
  run_stage(ctx, weights_.stages[last_down], x);
  run_stage(ctx, weights_.stages.back(), x);
  ctx.run(ops::GroupNorm{.x = x,
                         .weight = weights_.output_norm.weight,
                         .bias = weights_.output_norm.bias,
                         .num_groups = static_cast<int>(config().norm_groups),
                         .activation = Activation::kSilu,
                         .out = normed});
  vae::run_pixelwise(ctx, normed, weights_.output.weight.values(), {}, out);
  return out;
}

void VaeEncoder::encode_posterior(Context& ctx, const TensorView& frames,
                                  const TensorView& posterior) const {
  const Shape latents = latent_shape(frames.shape());
  const Shape wanted{2 * latents[0], latents[1], latents[2], latents[3]};
  if (posterior.shape() != wanted) {
    fail("VAE encoder: wanted a posterior {}, found {}", wanted.to_string(),
         posterior.shape().to_string());
  }
  const Arena::Scope scope(ctx.scratch);
  ctx.run(ops::ChannelsLastToLatents{.x = forward(ctx, frames),
                                     .scale = identity_scale_,
                                     .shift = identity_shift_,
                                     .latents = posterior});
}

void VaeEncoder::encode(Context& ctx, const TensorView& frames, const TensorView& latents) const {
  const Shape wanted = latent_shape(frames.shape());
  if (latents.shape() != wanted) {
    fail("VAE encoder: wanted latents {}, found {}", wanted.to_string(),
         latents.shape().to_string());
  }
  const Arena::Scope scope(ctx.scratch);
  ctx.run(ops::ChannelsLastToLatents{.x = forward(ctx, frames),
                                     .scale = latent_scale_,
                                     .shift = latent_mean_,
                                     .latents = latents});
}

}  // namespace mochi
