#include "bench/flops.h"

namespace mochi::bench {
namespace {

double product(std::int64_t a, std::int64_t b, std::int64_t c) {
  return static_cast<double>(a) * static_cast<double>(b) * static_cast<double>(c);
}

// Multiply-adds of one block.
double block_macs(const DitConfig& config, std::int64_t num_visual, std::int64_t num_text,
                  bool is_last) {
  const std::int64_t x = config.hidden_size_x;
  const std::int64_t y = config.hidden_size_y;
  const std::int64_t num_tokens = num_visual + num_text;
  double macs = product(num_visual, x, 4 * x + 3 * config.mlp_hidden_x);
  macs += product(num_text, y, 3 * x);
  if (!is_last) macs += product(num_text, y, x + 3 * config.mlp_hidden_y);
  macs += product(num_tokens, num_tokens, 2 * x);
  return macs + product(1, x, 4 * x + (is_last ? y : 4 * y));
}

}  // namespace

double gemm_flops(std::int64_t rows, std::int64_t n, std::int64_t k) {
  return 2.0 * product(rows, n, k);
}

double dit_flops(const DitConfig& config, const TokenGrid& grid, std::int64_t num_text_tokens) {
  const std::int64_t x = config.hidden_size_x;
  const std::int64_t patch_features =
      config.latent_channels * config.patch_size * config.patch_size;
  double macs = 2.0 * product(grid.num_tokens(), patch_features, x);
  macs += product(1, x, 2 * x) + product(1, x, config.timestep_features + x);
  for (std::int64_t layer = 0; layer < config.depth; ++layer) {
    macs += block_macs(config, grid.num_tokens(), num_text_tokens, layer + 1 == config.depth);
  }
  return 2.0 * macs;
}

double decode_flops(const VaeConfig& config, std::int64_t frames, std::int64_t rows,
                    std::int64_t columns) {
  constexpr std::int64_t kRgb = 3;
  const auto res_blocks = [](std::int64_t num_blocks, std::int64_t pixels, std::int64_t channels) {
    return static_cast<double>(num_blocks) * 2.0 * product(pixels, 27 * channels, channels);
  };
  std::int64_t pixels = frames * rows * columns;
  std::int64_t channels = config.decoder_channels.front();
  double macs = product(pixels, config.latent_channels, channels);
  macs += res_blocks(config.decoder_res_blocks.front(), pixels, channels);
  for (std::size_t up = 0; up + 1 < config.decoder_channels.size(); ++up) {
    const std::int64_t temporal = config.temporal_factors[up];
    const std::int64_t spatial = config.spatial_factors[up];
    const std::int64_t out_channels = config.decoder_channels[up + 1];
    macs += res_blocks(config.decoder_res_blocks[up + 1], pixels, channels);
    macs += product(pixels, channels, out_channels * temporal * spatial * spatial);
    frames = frames * temporal - (temporal - 1);  // the first frames of the video are dropped
    rows *= spatial;
    columns *= spatial;
    pixels = frames * rows * columns;
    channels = out_channels;
  }
  macs += res_blocks(config.decoder_res_blocks.back(), pixels, channels);
  return 2.0 * (macs + product(pixels, channels, kRgb));
}

double t5_flops(const TextEncoderConfig& config, std::int64_t num_tokens) {
  const std::int64_t inner = config.num_heads * config.head_dim;
  const double macs =
      product(num_tokens, config.hidden_size, 4 * inner + 3 * config.feed_forward_size) +
      product(num_tokens, num_tokens, 2 * inner);
  return 2.0 * static_cast<double>(config.num_layers) * macs;
}

}  // namespace mochi::bench
