// Inference of the video VAE's sizes from the shapes of its tensors.
#include <algorithm>
#include <string>

#include "base/error.h"
#include "io/tensor_source.h"
#include "vae/vae_config.h"

namespace mochi {
namespace {

using Sizes = std::vector<std::int64_t>;

// Counts the tensors prefix{first}suffix, prefix{first + 1}suffix, ... up to the first missing one.
std::int64_t count_tensors(const TensorSource& source, const std::string& prefix,
                           std::int64_t first, const std::string& suffix) {
  std::int64_t count = 0;
  while (source.contains(fmt::format("{}{}{}", prefix, first + count, suffix))) ++count;
  return count;
}

// Splits the features that an up block's proj computes per output channel into frames × rows ×
// columns. The checkpoint does not distinguish 4 frames from 2×2 pixels; Mochi doubles rows and
// columns if the number allows it.
void append_factors(const TensorSource& source, const std::string& name, std::int64_t num_features,
                    std::int64_t out_channels, VaeConfig& config) {
  constexpr std::int64_t kSpatial = 2;
  if (out_channels < 1 || num_features % (out_channels * kSpatial * kSpatial) != 0) {
    fail(
        "{}: tensor '{}' with {} rows does not double rows and columns of {} channels: "
        "write the sizes into a config.json",
        source.description(), name, num_features, out_channels);
  }
  config.temporal_factors.push_back(num_features / (out_channels * kSpatial * kSpatial));
  config.spatial_factors.push_back(kSpatial);
}

void infer_decoder(const TensorSource& source, VaeConfig& config) {
  const Shape input = source.require_rank("blocks.0.0.weight", 5);
  config.latent_channels = input[1];
  config.decoder_channels = {input[0]};
  config.decoder_res_blocks = {count_tensors(source, "blocks.0.", 1, ".stack.0.weight")};
  config.temporal_factors.clear();
  config.spatial_factors.clear();
  const std::int64_t num_up = count_tensors(source, "blocks.", 1, ".proj.weight");
  for (std::int64_t up = 1; up <= num_up; ++up) {
    const std::string block = "blocks." + std::to_string(up);
    const std::string next = "blocks." + std::to_string(up + 1);
    const std::string first_norm = up < num_up ? ".blocks.0.stack.0.weight" : ".0.stack.0.weight";
    const std::int64_t out_channels = source.require_rank(next + first_norm, 1)[0];
    config.decoder_res_blocks.push_back(
        count_tensors(source, block + ".blocks.", 0, ".stack.0.weight"));
    config.decoder_channels.push_back(out_channels);
    append_factors(source, block + ".proj.weight",
                   source.require_rank(block + ".proj.weight", 2)[0], out_channels, config);
  }
  const std::string last = "blocks." + std::to_string(num_up + 1) + ".";
  config.decoder_res_blocks.push_back(count_tensors(source, last, 0, ".stack.0.weight"));
}

void infer_encoder(const TensorSource& source, VaeConfig& config) {
  const auto layer = [](std::int64_t idx) { return "layers." + std::to_string(idx); };
  const auto has_attention = [&](const std::string& name) {
    return source.contains(name + ".attn_block.attn.qkv.weight");
  };
  const Shape input = source.require_rank("layers.0.weight", 2);
  const auto num_frequencies = static_cast<std::int64_t>(config.fourier_frequencies.size());
  if (input[1] != 3 * (1 + 2 * num_frequencies)) {
    fail(
        "{}: tensor 'layers.0.weight' has shape {}, wanted {} columns: write the frequencies into "
        "a config.json",
        source.description(), input.to_string(), 3 * (1 + 2 * num_frequencies));
  }
  config.latent_channels = source.require_rank("output_proj.weight", 2)[0] / 2;
  config.encoder_channels = {input[0]};
  config.encoder_res_blocks = {count_tensors(source, "layers.", 1, ".stack.0.weight")};
  config.encoder_attention = {has_attention(layer(1))};
  config.temporal_factors.clear();
  config.spatial_factors.clear();
  const std::int64_t first_down = config.encoder_res_blocks[0] + 1;
  const std::int64_t num_down = count_tensors(source, "layers.", first_down, ".layers.0.weight");
  for (std::int64_t down = first_down; down < first_down + num_down; ++down) {
    const Shape conv = source.require_rank(layer(down) + ".layers.0.weight", 5);
    config.encoder_channels.push_back(conv[0]);
    // The encoder uses the factors in reverse order.
    config.temporal_factors.insert(config.temporal_factors.begin(), conv[2]);
    config.spatial_factors.insert(config.spatial_factors.begin(), conv[3]);
    config.encoder_res_blocks.push_back(
        count_tensors(source, layer(down) + ".layers.", 1, ".stack.0.weight"));
    config.encoder_attention.push_back(has_attention(layer(down) + ".layers.1"));
  }
  const std::int64_t first_out = first_down + num_down;
  config.encoder_res_blocks.push_back(
      count_tensors(source, "layers.", first_out, ".stack.0.weight"));
  config.encoder_attention.push_back(has_attention(layer(first_out)));
}

}  // namespace

VaeConfig infer_vae_config(const TensorSource* decoder, const TensorSource* encoder) {
  VaeConfig config;
  if (decoder != nullptr) infer_decoder(*decoder, config);
  if (encoder != nullptr) {
    const VaeConfig of_decoder = config;
    infer_encoder(*encoder, config);
    if (decoder != nullptr && (config.latent_channels != of_decoder.latent_channels ||
                               config.temporal_factors != of_decoder.temporal_factors ||
                               config.spatial_factors != of_decoder.spatial_factors)) {
      fail("{} and {} are halves of different VAEs: their compression differs",
           decoder->description(), encoder->description());
    }
  }
  // The default statistics belong to Mochi 1's channels only.
  if (config.latent_channels != VaeConfig().latent_channels) {
    // A shape that contains a 0 can claim any other size; validate() refuses it.
    const auto num_channels = static_cast<std::size_t>(
        std::clamp<std::int64_t>(config.latent_channels, 0, VaeConfig::kMaxSize));
    config.latent_mean.assign(num_channels, 0.0);
    config.latent_std.assign(num_channels, 1.0);
  }
  config.validate();
  return config;
}

}  // namespace mochi
