#include "vae/vae_weights.h"

namespace mochi {
namespace {

std::size_t as_size(std::int64_t value) { return static_cast<std::size_t>(value); }

std::string indexed(const std::string& prefix, std::size_t idx) {
  return prefix + "." + std::to_string(idx);
}

void visit_res_blocks(const WeightVisitor& visitor, std::vector<ResBlockWeights>& blocks,
                      const std::string& prefix, std::size_t first_idx, std::int64_t channels) {
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    blocks[i].visit(visitor, indexed(prefix, first_idx + i), channels);
  }
}

void visit_stage(const WeightVisitor& visitor, EncoderStageWeights& stage,
                 const std::string& prefix, std::size_t first_idx, std::int64_t channels) {
  visit_res_blocks(visitor, stage.res_blocks, prefix, first_idx, channels);
  for (std::size_t i = 0; i < stage.attention_blocks.size(); ++i) {
    stage.attention_blocks[i].visit(visitor, indexed(prefix, first_idx + i) + ".attn_block",
                                    channels);
  }
}

}  // namespace

void NormWeights::visit(const WeightVisitor& visitor, const std::string& prefix,
                        std::int64_t channels) {
  visitor(prefix + ".weight", weight, {channels}, WeightRole::kVector);
  visitor(prefix + ".bias", bias, {channels}, WeightRole::kVector);
}

void ConvWeights::visit(const WeightVisitor& visitor, const std::string& prefix,
                        const Shape& shape) {
  visitor(prefix + ".weight", weight, shape, WeightRole::kMatrix);
  visitor(prefix + ".bias", bias, {shape[0]}, WeightRole::kVector);
}

void ResBlockWeights::visit(const WeightVisitor& visitor, const std::string& prefix,
                            std::int64_t channels) {
  const Shape kernel{channels, channels, 3, 3, 3};
  norm1.visit(visitor, prefix + ".stack.0", channels);
  conv1.visit(visitor, prefix + ".stack.2", kernel);
  norm2.visit(visitor, prefix + ".stack.3", channels);
  conv2.visit(visitor, prefix + ".stack.5", kernel);
}

void AttentionBlockWeights::visit(const WeightVisitor& visitor, const std::string& prefix,
                                  std::int64_t channels) {
  norm.visit(visitor, prefix + ".norm", channels);
  qkv.visit(visitor, prefix + ".attn.qkv", 3 * channels, channels, /*has_bias=*/false);
  out.visit(visitor, prefix + ".attn.out", channels, channels, /*has_bias=*/true);
}

VaeDecoderWeights::VaeDecoderWeights(const VaeConfig& vae_config) : config(vae_config) {
  config.validate();
  const std::vector<std::int64_t>& num_blocks = config.decoder_res_blocks;
  input_blocks.resize(as_size(num_blocks.front()));
  up_blocks.resize(as_size(config.num_up_blocks()));
  for (std::size_t up = 0; up < up_blocks.size(); ++up) {
    up_blocks[up].res_blocks.resize(as_size(num_blocks[up + 1]));
  }
  output_blocks.resize(as_size(num_blocks.back()));
}

void VaeDecoderWeights::visit(const WeightVisitor& visitor) {
  const std::vector<std::int64_t>& channels = config.decoder_channels;
  input.visit(visitor, "blocks.0.0", {channels[0], config.latent_channels, 1, 1, 1});
  visit_res_blocks(visitor, input_blocks, "blocks.0", 1, channels[0]);
  for (std::size_t up = 0; up < up_blocks.size(); ++up) {
    const std::string prefix = indexed("blocks", up + 1);
    const std::int64_t spatial = config.spatial_factors[up];
    visit_res_blocks(visitor, up_blocks[up].res_blocks, prefix + ".blocks", 0, channels[up]);
    up_blocks[up].proj.visit(visitor, prefix + ".proj",
                             channels[up + 1] * config.temporal_factors[up] * spatial * spatial,
                             channels[up], /*has_bias=*/true);
  }
  visit_res_blocks(visitor, output_blocks, indexed("blocks", up_blocks.size() + 1), 0,
                   channels.back());
  output.visit(visitor, "output_proj", 3, channels.back(), /*has_bias=*/true);
}

VaeEncoderWeights::VaeEncoderWeights(const VaeConfig& vae_config) : config(vae_config) {
  config.validate();
  stages.resize(config.encoder_res_blocks.size());
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    const std::size_t num_blocks = as_size(config.encoder_res_blocks[stage]);
    stages[stage].res_blocks.resize(num_blocks);
    if (config.encoder_attention[stage]) stages[stage].attention_blocks.resize(num_blocks);
  }
}

void VaeEncoderWeights::visit(const WeightVisitor& visitor) {
  const std::vector<std::int64_t>& channels = config.encoder_channels;
  const auto num_inputs =
      3 * (1 + 2 * static_cast<std::int64_t>(config.fourier_frequencies.size()));
  input.visit(visitor, "layers.0", channels[0], num_inputs, /*has_bias=*/true);
  visit_stage(visitor, stages.front(), "layers", 1, channels[0]);
  // Layers are numbered consecutively: each residual block counts as one, and so does each down
  // block.
  std::size_t layer = 1 + stages.front().res_blocks.size();
  const std::size_t num_down = as_size(config.num_up_blocks());
  for (std::size_t down = 0; down < num_down; ++down, ++layer) {
    const std::string prefix = indexed("layers", layer) + ".layers";
    const std::int64_t spatial = config.spatial_factors[num_down - 1 - down];
    EncoderStageWeights& stage = stages[down + 1];
    stage.down.visit(visitor, prefix + ".0",
                     {channels[down + 1], channels[down],
                      config.temporal_factors[num_down - 1 - down], spatial, spatial});
    visit_stage(visitor, stage, prefix, 1, channels[down + 1]);
  }
  visit_stage(visitor, stages.back(), "layers", layer, channels.back());
  output_norm.visit(visitor, "output_norm", channels.back());
  output.visit(visitor, "output_proj", 2 * config.latent_channels, channels.back(),
               /*has_bias=*/false);
}

}  // namespace mochi
