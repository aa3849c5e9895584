#include "vae/vae_decoder.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "vae/vae_blocks.h"

namespace mochi {
namespace {

// Copies latent frames [begin, end) of latents [channels, T, rows, columns] to ctx.scratch.
TensorView gather_frames(Context& ctx, const TensorView& latents, std::int64_t begin,
                         std::int64_t end) {
  const Shape frames{latents.dim(1), latents.dim(2), latents.dim(3)};
  const TensorView chunk = ctx.scratch.allocate(
      DType::kF32, {latents.dim(0), end - begin, latents.dim(2), latents.dim(3)});
  const Shape chunk_frames{chunk.dim(1), chunk.dim(2), chunk.dim(3)};
  for (std::int64_t c = 0; c < latents.dim(0); ++c) {
    ctx.run(ops::Copy{.source = latents.rows(c, c + 1).reshape(frames).rows(begin, end),
                      .target = chunk.rows(c, c + 1).reshape(chunk_frames)});
  }
  return chunk;
}

}  // namespace

VaeDecoder::VaeDecoder(Backend& backend, VaeDecoderWeights weights)
    : weights_(std::move(weights)),
      latent_std_(vae::upload_vector(backend, weights_.config.latent_std)),
      latent_mean_(vae::upload_vector(backend, weights_.config.latent_mean)) {}

VaeDecoderStream::VaeDecoderStream(Backend& backend, const VaeDecoder& decoder, std::int64_t rows,
                                   std::int64_t columns)
    : decoder_(decoder), rows_(rows), columns_(columns) {
  if (rows < 1 || columns < 1) {
    fail("VAE decoder: wanted latents of at least one row and column, found {}×{}", rows, columns);
  }
  const VaeConfig& config = decoder.config();
  std::int64_t scale = 1;
  for (std::size_t stage = 0; stage < config.decoder_res_blocks.size(); ++stage) {
    // The input stage and the first up block's residual blocks have the same width and size.
    const std::size_t width_idx = std::max<std::size_t>(stage, 1) - 1;
    if (width_idx > 0) scale *= config.spatial_factors[width_idx - 1];
    add_stage(backend, static_cast<std::size_t>(config.decoder_res_blocks[stage]),
              {1, rows * scale, columns * scale, config.decoder_channels[width_idx]});
  }
}

void VaeDecoderStream::add_stage(Backend& backend, std::size_t num_res_blocks, const Shape& x) {
  std::vector<BlockCache>& stage = caches_.emplace_back();
  for (std::size_t i = 0; i < num_res_blocks; ++i) {
    BlockCache& cache = stage.emplace_back();
    cache.conv1 = Tensor(backend.activation_dtype(), vae::cache_shape(x), backend.allocator());
    cache.conv2 = Tensor(backend.activation_dtype(), vae::cache_shape(x), backend.allocator());
  }
}

std::int64_t VaeDecoderStream::num_frames(std::int64_t num_latent_frames) const {
  const VaeConfig& config = decoder_.config();
  return is_start_ ? config.num_frames(num_latent_frames)
                   : config.temporal_compression() * num_latent_frames;
}

void VaeDecoderStream::run_res_blocks(Context& ctx, std::size_t stage,
                                      std::span<const ResBlockWeights> blocks,
                                      const TensorView& x) {
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    ctx.check_stop();
    const BlockCache& cache = caches_[stage][i];
    vae::run_res_block(ctx, blocks[i], decoder_.config().norm_groups, {cache.conv1, cache.conv2},
                       is_start_, x);
  }
}

void VaeDecoderStream::upsample(Context& ctx, std::size_t up_idx, const TensorView& x,
                                const TensorView& out) {
  const VaeConfig& config = decoder_.config();
  const LinearWeights& proj = decoder_.weights_.up_blocks[up_idx].proj;
  const std::int64_t temporal = config.temporal_factors[up_idx];
  const std::int64_t spatial = config.spatial_factors[up_idx];
  const std::int64_t dropped = is_start_ ? temporal - 1 : 0;
  const std::int64_t num_features =
      config.decoder_channels[up_idx + 1] * temporal * spatial * spatial;
  const std::int64_t slice = vae::frames_per_slice(ctx.backend, x.dim(1) * x.dim(2) * num_features);
  for (std::int64_t begin = 0; begin < x.dim(0); begin += slice) {
    const std::int64_t end = std::min(begin + slice, x.dim(0));
    const Arena::Scope scope(ctx.scratch);
    const TensorView features = ctx.activation({end - begin, x.dim(1), x.dim(2), num_features});
    vae::run_pixelwise(ctx, x.rows(begin, end), proj.weight.values(), proj.bias, features);
    const std::int64_t out_begin = begin == 0 ? 0 : begin * temporal - dropped;
    ctx.run(ops::DepthToSpaceTime{.x = features,
                                  .temporal = static_cast<int>(temporal),
                                  .spatial = static_cast<int>(spatial),
                                  .num_dropped_frames = static_cast<int>(begin == 0 ? dropped : 0),
                                  .out = out.rows(out_begin, end * temporal - dropped)});
  }
}

TensorView VaeDecoderStream::run_up_block(Context& ctx, std::size_t up_idx, const TensorView& x) {
  const VaeConfig& config = decoder_.config();
  const std::int64_t temporal = config.temporal_factors[up_idx];
  const std::int64_t spatial = config.spatial_factors[up_idx];
  run_res_blocks(ctx, up_idx + 1, decoder_.weights_.up_blocks[up_idx].res_blocks, x);
  const std::int64_t num_out_frames = x.dim(0) * temporal - (is_start_ ? temporal - 1 : 0);
  const TensorView out = ctx.activation({num_out_frames, x.dim(1) * spatial, x.dim(2) * spatial,
                                         config.decoder_channels[up_idx + 1]});
  upsample(ctx, up_idx, x, out);
  return out;
}

TensorView VaeDecoderStream::decode(Context& ctx, const TensorView& latents) {
  const VaeDecoderWeights& weights = decoder_.weights_;
  const VaeConfig& config = weights.config;
  const bool fits =
      latents.rank() == 4 && latents.dim(1) > 0 &&
      latents.shape() == Shape{config.latent_channels, latents.dim(1), rows_, columns_};
  if (!fits) {
    fail("VAE decoder: wanted latents [{}, frames, {}, {}], found {}", config.latent_channels,
         rows_, columns_, latents.shape().to_string());
  }
  const std::int64_t num_latent_frames = latents.dim(1);
  const std::int64_t scale = config.spatial_compression();
  const TensorView frames =
      ctx.activation({num_frames(num_latent_frames), rows_ * scale, columns_ * scale, vae::kRgb});

  const Arena::Scope scope(ctx.scratch);
  const TensorView input =
      ctx.activation({num_latent_frames, rows_, columns_, config.latent_channels});
  ctx.run(ops::LatentsToChannelsLast{.latents = latents,
                                     .scale = decoder_.latent_std_,
                                     .shift = decoder_.latent_mean_,
                                     .out = input});
  TensorView x =
      ctx.activation({num_latent_frames, rows_, columns_, config.decoder_channels.front()});
  vae::run_pixelwise(ctx, input, weights.input.weight, weights.input.bias, x);
  run_res_blocks(ctx, 0, weights.input_blocks, x);
  for (std::size_t up = 0; up < weights.up_blocks.size(); ++up) x = run_up_block(ctx, up, x);
  run_res_blocks(ctx, caches_.size() - 1, weights.output_blocks, x);
  ctx.run(ops::Silu{.x = x, .out = x});
  vae::run_pixelwise(ctx, x, weights.output.weight.values(), weights.output.bias, frames);
  is_start_ = false;
  return frames;
}

void decode_video(Context& ctx, const VaeDecoder& decoder, const TensorView& latents,
                  std::int64_t chunk_frames, const FrameSink& sink) {
  if (latents.rank() != 4 || latents.dtype() != DType::kF32) {
    fail("VAE decoder: wanted F32 latents [channels, frames, rows, columns], found {} {}",
         dtype_name(latents.dtype()), latents.shape().to_string());
  }
  if (chunk_frames < 1) {
    fail("VAE decoder: wanted chunks of 1 frame or more, found {}", chunk_frames);
  }
  VaeDecoderStream stream(ctx.backend, decoder, latents.dim(2), latents.dim(3));
  const std::int64_t scale = decoder.config().spatial_compression();
  const std::int64_t frame_bytes = latents.dim(2) * scale * latents.dim(3) * scale * vae::kRgb;
  // The first chunk produces the fewest frames per latent frame. With one more latent frame it is
  // the largest chunk, and the scratch memory that it needs suffices for the others.
  const std::int64_t first_chunk =
      std::min(chunk_frames + (chunk_frames > 1 ? 1 : 0), latents.dim(1));
  const std::int64_t max_frames =
      std::max(stream.num_frames(first_chunk),
               decoder.config().temporal_compression() * std::min(chunk_frames, latents.dim(1)));
  Tensor bytes;                  // [max_frames, frame_bytes] of the last chunk
  std::int64_t num_waiting = 0;  // number of its frames that the sink has not received yet
  std::int64_t frame_idx = 0;
  const auto give_to_sink = [&] {
    const auto* rgb = reinterpret_cast<const std::uint8_t*>(bytes.view().bytes());
    for (std::int64_t i = 0; i < num_waiting; ++i) {
      sink(std::span(rgb + i * frame_bytes, static_cast<std::size_t>(frame_bytes)), frame_idx++);
    }
    num_waiting = 0;
  };
  // On a GPU the next chunk is launched before the sink receives the last one.
  const bool is_ahead = !ctx.backend.device().device().is_cpu();
  std::int64_t end = 0;
  while (end < latents.dim(1)) {
    const Arena::Scope scope(ctx.scratch);
    const std::int64_t begin = end;
    end = begin == 0 ? first_chunk : std::min(begin + chunk_frames, latents.dim(1));
    const TensorView frames = stream.decode(ctx, gather_frames(ctx, latents, begin, end));
    give_to_sink();
    if (!bytes) {
      bytes =
          Tensor(DType::kU8, {max_frames, frame_bytes}, ctx.backend.device().staging_allocator());
    }
    num_waiting = frames.dim(0);
    ctx.run(
        ops::ToRgb8{.x = frames, .out = bytes.view().rows(0, num_waiting).reshape(frames.shape())});
    if (!is_ahead) give_to_sink();
  }
  give_to_sink();
}

}  // namespace mochi
