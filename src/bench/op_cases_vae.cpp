// Operations of the video decoder and encoder, at what one latent frame in the middle of a video
// becomes; rows are frames.
#include <fmt/format.h>

#include "bench/op_cases.h"
#include "pipeline/request.h"

namespace mochi::bench {
namespace {

struct Stage {
  std::int64_t frames, rows, columns, channels;
  std::string text() const { return fmt::format("{}×{}×{}×{}", frames, rows, columns, channels); }
};

// Stages of different size, from the latents to the frames.
std::vector<Stage> decoder_stages(const Sizes& sizes) {
  const VaeConfig& vae = sizes.config.vae;
  const Latents latents = size_latents(sizes.config, sizes.video);
  std::vector<Stage> stages{{1, latents.height, latents.width, vae.decoder_channels[0]}};
  for (std::size_t up = 0; up + 1 < vae.decoder_channels.size(); ++up) {
    const Stage& last = stages.back();
    stages.push_back({last.frames * vae.temporal_factors[up], last.rows * vae.spatial_factors[up],
                      last.columns * vae.spatial_factors[up], vae.decoder_channels[up + 1]});
  }
  return stages;
}

OpCase group_norm_case(const Stage& stage, std::int64_t num_groups) {
  return {.name = "group_norm",
          .size = stage.text(),
          .num_rows = stage.frames,
          .num_verified = 1,
          .make = [=](Inputs& in, std::int64_t frames) -> OpTask {
            const TensorView x = in.activations({frames, stage.rows, stage.columns, stage.channels},
                                                0, {0.5F, 1.0F});
            const TensorView weight = in.vector(stage.channels);
            const TensorView bias = in.vector(stage.channels, {0.0F, 0.1F});
            const TensorView out =
                in.output({frames, stage.rows + 2, stage.columns + 2, stage.channels});
            return [=](Backend& backend) {
              backend.run(ops::GroupNorm{.x = x,
                                         .weight = weight,
                                         .bias = bias,
                                         .num_groups = static_cast<int>(num_groups),
                                         .out = out});
            };
          }};
}

OpCase conv3d_case(const Stage& stage) {
  constexpr std::int64_t kPast = 2;
  return {.name = "conv3d",
          .size = stage.text(),
          .num_rows = stage.frames,
          .num_verified = 1,
          .make = [=](Inputs& in, std::int64_t frames) -> OpTask {
            const std::int64_t c = stage.channels;
            const TensorView x =
                in.activations({frames + kPast, stage.rows + 2, stage.columns + 2, c});
            const Shape out_shape{frames, stage.rows, stage.columns, c};
            const TensorView weight = in.matrix({c, c, 3, 3, 3});
            const TensorView bias = in.vector(c, {0.0F, 0.02F});
            const TensorView residual = in.activations(out_shape);
            const TensorView out = in.output(out_shape);
            return [=](Backend& backend) {
              backend.run(ops::Conv3d{
                  .x = x, .weight = weight, .bias = bias, .residual = residual, .out = out});
            };
          }};
}

OpCase depth_to_space_time_case(const Stage& from, const Stage& to) {
  const auto temporal = static_cast<int>(to.frames / from.frames);
  const auto spatial = static_cast<int>(to.rows / from.rows);
  const std::int64_t num_features = to.channels * temporal * spatial * spatial;
  return {.name = "depth_to_space_time",
          .size = to.text(),
          .num_rows = from.frames,
          .num_verified = 1,
          .make = [=](Inputs& in, std::int64_t frames) -> OpTask {
            const TensorView x = in.activations({frames, from.rows, from.columns, num_features});
            const TensorView out = in.output({frames * temporal, to.rows, to.columns, to.channels});
            return [=](Backend& backend) {
              backend.run(ops::DepthToSpaceTime{
                  .x = x, .temporal = temporal, .spatial = spatial, .out = out});
            };
          }};
}

OpCase latents_case(const VaeConfig& vae, const Latents& latents) {
  const std::int64_t channels = vae.latent_channels;
  return {.name = "latents_to_channels_last",
          .size = fmt::format("{}×{}×{}×{}", channels, latents.num_frames, latents.height,
                              latents.width),
          .num_rows = latents.num_frames,
          .num_verified = 1,
          .make = [=](Inputs& in, std::int64_t frames) -> OpTask {
            const TensorView z = in.f32({channels, frames, latents.height, latents.width}, 1);
            const TensorView scale = in.vector(channels);
            const TensorView shift = in.vector(channels, {0.0F, 0.1F});
            const TensorView out = in.output({frames, latents.height, latents.width, channels});
            return [=](Backend& backend) {
              backend.run(ops::LatentsToChannelsLast{
                  .latents = z, .scale = scale, .shift = shift, .out = out});
            };
          }};
}

OpCase silu_case(const Stage& stage) {
  return {.name = "silu",
          .size = stage.text(),
          .num_rows = stage.frames,
          .num_verified = 1,
          .make = [=](Inputs& in, std::int64_t frames) -> OpTask {
            const Shape shape{frames, stage.rows, stage.columns, stage.channels};
            const TensorView x = in.activations(shape);
            const TensorView out = in.output(shape);
            return [=](Backend& backend) { backend.run(ops::Silu{.x = x, .out = out}); };
          }};
}

// ---- encoder ----

OpCase fourier_features_case(const VaeConfig& vae, const Stage& frames_stage) {
  const std::vector<int> frequencies(vae.fourier_frequencies.begin(),
                                     vae.fourier_frequencies.end());
  const auto num_features = static_cast<std::int64_t>(3 * (1 + 2 * frequencies.size()));
  const Stage stage{frames_stage.frames, frames_stage.rows, frames_stage.columns, 3};
  return {.name = "fourier_features",
          .size = stage.text(),
          .num_rows = stage.frames,
          .num_verified = 1,
          .make = [=](Inputs& in, std::int64_t frames) -> OpTask {
            const TensorView x =
                in.activations({frames, stage.rows, stage.columns, 3}, 0, {0.0F, 0.3F});
            const TensorView out = in.output({frames, stage.rows, stage.columns, num_features});
            return [=](Backend& backend) {
              backend.run(ops::FourierFeatures{.x = x, .frequencies = frequencies, .out = out});
            };
          }};
}

// The encoder's widest attention: its last stage, where a frame is as small as the latents.
OpCase temporal_attention_case(const VaeConfig& vae, const Latents& latents) {
  const std::int64_t channels = vae.encoder_channels.back();
  const auto head_dim = static_cast<int>(vae.encoder_attention_head_dim);
  const std::int64_t frames = latents.num_frames;
  // Here pixels are independent.
  return {.name = "temporal_attention",
          .size = fmt::format("{}×{}×{}×{}", frames, latents.height, latents.width, channels),
          .num_rows = latents.height,
          .num_verified = 1,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const TensorView qkv = in.activations({frames, rows, latents.width, 3 * channels}, 1);
            const TensorView out = in.output({frames, rows, latents.width, channels}, 1);
            return [=](Backend& backend) {
              backend.run(ops::TemporalAttention{.qkv = qkv, .head_dim = head_dim, .out = out});
            };
          }};
}

// The strided convolution into the last stage; its kernel equals its stride.
OpCase strided_conv3d_case(const VaeConfig& vae, const Latents& latents) {
  const std::int64_t out_channels = vae.encoder_channels.back();
  const std::int64_t in_channels = vae.encoder_channels[vae.encoder_channels.size() - 2];
  const std::int64_t temporal = vae.temporal_factors.front();
  const std::int64_t spatial = vae.spatial_factors.front();
  constexpr std::int64_t kFrames = 4;
  return {.name = "conv3d, strided",
          .size = fmt::format("{}×{}×{}×{}", kFrames, latents.height, latents.width, out_channels),
          .num_rows = kFrames,
          .num_verified = 1,
          .make = [=](Inputs& in, std::int64_t frames) -> OpTask {
            const TensorView x = in.activations({frames * temporal, latents.height * spatial,
                                                 latents.width * spatial, in_channels});
            const TensorView weight =
                in.matrix({out_channels, in_channels, temporal, spatial, spatial});
            const TensorView bias = in.vector(out_channels, {0.0F, 0.02F});
            const std::array<int, 3> stride{static_cast<int>(temporal), static_cast<int>(spatial),
                                            static_cast<int>(spatial)};
            const TensorView out = in.output({frames, latents.height, latents.width, out_channels});
            return [=](Backend& backend) {
              backend.run(ops::Conv3d{
                  .x = x, .weight = weight, .bias = bias, .stride = stride, .out = out});
            };
          }};
}

}  // namespace

std::vector<OpCase> list_decoder_cases(const Sizes& sizes) {
  const VaeConfig& vae = sizes.config.vae;
  const std::vector<Stage> stages = decoder_stages(sizes);
  std::vector<OpCase> cases{latents_case(vae, size_latents(sizes.config, sizes.video))};
  for (const Stage& stage : stages) cases.push_back(group_norm_case(stage, vae.norm_groups));
  for (const Stage& stage : stages) cases.push_back(conv3d_case(stage));
  for (std::size_t up = 0; up + 1 < stages.size(); ++up) {
    const std::int64_t num_pixels = stages[up].frames * stages[up].rows * stages[up].columns;
    const std::int64_t num_features = stages[up + 1].channels * vae.temporal_factors[up] *
                                      vae.spatial_factors[up] * vae.spatial_factors[up];
    cases.push_back(linear_case(fmt::format("up {}", up + 1), num_pixels, stages[up].channels,
                                num_features, true));
    cases.push_back(depth_to_space_time_case(stages[up], stages[up + 1]));
  }
  cases.push_back(silu_case(stages.back()));
  const Stage& last = stages.back();
  cases.push_back(
      linear_case("RGB", last.frames * last.rows * last.columns, last.channels, 3, true));
  return cases;
}

std::vector<OpCase> list_encoder_cases(const Sizes& sizes) {
  const VaeConfig& vae = sizes.config.vae;
  const Latents latents = size_latents(sizes.config, sizes.video);
  return {fourier_features_case(vae, decoder_stages(sizes).back()),
          strided_conv3d_case(vae, latents), temporal_attention_case(vae, latents)};
}

}  // namespace mochi::bench
