#include "bench/sizes.h"

#include "base/error.h"

namespace mochi::bench {
namespace {

ModelConfig micro_config() {
  ModelConfig config;
  config.dit.depth = 4;
  config.dit.num_heads = 2;
  config.dit.hidden_size_x = 256;
  config.dit.hidden_size_y = 128;
  config.dit.mlp_hidden_x = 512;
  config.dit.mlp_hidden_y = 256;
  config.dit.text_width = 128;
  config.dit.max_text_tokens = 64;
  config.text_encoder.num_layers = 3;
  config.text_encoder.hidden_size = 128;
  config.text_encoder.num_heads = 4;
  config.text_encoder.head_dim = 32;
  config.text_encoder.feed_forward_size = 256;
  config.text_encoder.vocab_size = 384;
  config.vae.norm_groups = 4;
  config.vae.decoder_channels = {96, 64, 48, 16};
  config.vae.decoder_res_blocks = {1, 1, 2, 2, 1};
  config.vae.encoder_channels = {16, 48, 64, 64};
  config.vae.encoder_res_blocks = {1, 1, 1, 1, 1};
  config.vae.encoder_attention_head_dim = 16;
  return config;
}

// `config` with groups and tiles that are small enough for so few tokens.
SparsityConfig shrink(SparsityConfig config) {
  config.attn.first_n_dense_layers = 1;
  config.attn.counts_multiple_of = 16;
  config.attn.group_size = 64;
  return config;
}

}  // namespace

Sizes sizes_of(const std::string& name, const SparsityConfig& sparsity) {
  if (name == "full") {
    return {.config = {},
            .video = {.width = 848, .height = 480, .num_frames = 163},
            .sparsity = sparsity,
            .num_text_tokens = 128,
            .num_encoder_tokens = 256,
            .product = 8192,
            .copy_values = std::int64_t{1} << 29,
            .batch_seconds = 0.02};
  }
  if (name == "micro") {
    return {.config = micro_config(),
            .video = {.width = 160, .height = 96, .num_frames = 13},
            .sparsity = shrink(sparsity),
            .num_text_tokens = 16,
            .num_encoder_tokens = 64,
            .product = 512,
            .copy_values = std::int64_t{1} << 22,
            .batch_seconds = 0.002};
  }
  refuse("size", "wanted 'full' or 'micro', found '{}'", name);
}

}  // namespace mochi::bench
