#include "vae/diffusers_layout.h"

#include <fmt/core.h>

#include <string>
#include <utility>

#include "base/error.h"
#include "io/key_map.h"

namespace mochi {
namespace {

void map_res_block(KeyMapBuilder& map, const std::string& target, const std::string& source) {
  map.rename_layer(target + ".stack.0", source + ".norm1.norm_layer");
  map.rename_layer(target + ".stack.2", source + ".conv1.conv");
  map.rename_layer(target + ".stack.3", source + ".norm2.norm_layer");
  map.rename_layer(target + ".stack.5", source + ".conv2.conv");
}

int count_res_blocks(const KeyMapBuilder& map, const std::string& stage) {
  return map.count(stage + ".resnets.", ".conv1.conv.weight");
}

// Maps the residual blocks of a stage to target{first_idx}, target{first_idx + 1}, ...; an
// attention may follow each. Returns the number of blocks.
int map_stage(KeyMapBuilder& map, const std::string& target, int first_idx,
              const std::string& stage) {
  const int num_blocks = count_res_blocks(map, stage);
  for (int i = 0; i < num_blocks; ++i) {
    const std::string block = fmt::format("{}{}", target, first_idx + i);
    map_res_block(map, block, fmt::format("{}.resnets.{}", stage, i));
    const std::string attention = fmt::format("{}.attentions.{}.", stage, i);
    if (!map.has(attention + "to_q.weight")) continue;
    map.rename_layer(block + ".attn_block.norm", fmt::format("{}.norms.{}.norm_layer", stage, i));
    map.concatenate(
        block + ".attn_block.attn.qkv.weight",
        {attention + "to_q.weight", attention + "to_k.weight", attention + "to_v.weight"});
    map.rename_layer(block + ".attn_block.attn.out", attention + "to_out.0");
  }
  return num_blocks;
}

KeyMappedSource::KeyMap map_decoder(const TensorSource& source) {
  KeyMapBuilder map(source);
  map.rename_layer("blocks.0.0", "decoder.conv_in");
  map_stage(map, "blocks.0.", 1, "decoder.block_in");
  const int num_up_blocks = map.count("decoder.up_blocks.", ".proj.weight");
  for (int i = 0; i < num_up_blocks; ++i) {
    const std::string stage = fmt::format("decoder.up_blocks.{}", i);
    map_stage(map, fmt::format("blocks.{}.blocks.", i + 1), 0, stage);
    map.rename_layer(fmt::format("blocks.{}.proj", i + 1), stage + ".proj");
  }
  map_stage(map, fmt::format("blocks.{}.", num_up_blocks + 1), 0, "decoder.block_out");
  map.rename_layer("output_proj", "decoder.proj_out");
  return map.take();
}

KeyMappedSource::KeyMap map_encoder(const TensorSource& source) {
  KeyMapBuilder map(source);
  map.rename_layer("layers.0", "encoder.proj_in");
  int layer_idx = 1 + map_stage(map, "layers.", 1, "encoder.block_in");
  const int num_down_blocks = map.count("encoder.down_blocks.", ".conv_in.conv.weight");
  for (int i = 0; i < num_down_blocks; ++i) {
    const std::string stage = fmt::format("encoder.down_blocks.{}", i);
    const std::string target = fmt::format("layers.{}.layers.", layer_idx);
    map.rename_layer(target + "0", stage + ".conv_in.conv");
    map_stage(map, target, 1, stage);
    ++layer_idx;
  }
  map_stage(map, "layers.", layer_idx, "encoder.block_out");
  map.rename_layer("output_norm", "encoder.norm_out.norm_layer");
  map.rename_layer("output_proj", "encoder.proj_out");
  return map.take();
}

}  // namespace

bool has_diffusers_decoder_keys(const TensorSource& source) {
  // Other decoders have the first tensor, too.
  return source.contains("decoder.conv_in.weight") &&
         source.contains("decoder.block_in.resnets.0.conv1.conv.weight");
}

bool has_diffusers_encoder_keys(const TensorSource& source) {
  return source.contains("encoder.proj_in.weight");
}

std::shared_ptr<TensorSource> with_original_decoder_keys(std::shared_ptr<TensorSource> source) {
  if (source->contains("blocks.0.0.weight")) return source;
  if (!has_diffusers_decoder_keys(*source)) {
    fail(
        "{} is not a Mochi VAE decoder: it has neither 'blocks.0.0.weight' nor "
        "'decoder.conv_in.weight'",
        source->description());
  }
  KeyMappedSource::KeyMap map = map_decoder(*source);
  return std::make_shared<KeyMappedSource>(std::move(source), std::move(map), "decoder.");
}

std::shared_ptr<TensorSource> with_original_encoder_keys(std::shared_ptr<TensorSource> source) {
  if (source->contains("layers.0.weight")) return source;
  if (!has_diffusers_encoder_keys(*source)) {
    fail(
        "{} is not a Mochi VAE encoder: it has neither 'layers.0.weight' nor "
        "'encoder.proj_in.weight'",
        source->description());
  }
  KeyMappedSource::KeyMap map = map_encoder(*source);
  return std::make_shared<KeyMappedSource>(std::move(source), std::move(map), "encoder.");
}

}  // namespace mochi
