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

// Of mochi_sparsity() what so few tokens allow.
SparsityConfig micro_sparsity() {
  SparsityConfig config = mochi_sparsity();
  config.attn.first_n_dense_layers = 1;
  config.attn.counts_multiple_of = 16;
  config.attn.mbm = 64;
  return config;
}

}  // namespace

SparsityConfig mochi_sparsity() {
  SparsityConfig config;
  config.attn.top_keys = 0.15;
  config.attn.random_keys = 0.01;
  config.attn.local_voxels = 1;
  config.attn.full_step_schedule = {0, 1, 15, 30, 45, 60};
  config.attn.delta = DeltaKind::kHalfMerge;
  config.step_caching.skip_step_schedule = {7,  11, 13, 14, 15, 17, 18, 19, 21, 22, 23, 25, 26,
                                            27, 29, 31, 33, 34, 35, 37, 38, 39, 41, 42, 43};
  return config;
}

Sizes sizes_of(const std::string& name) {
  if (name == "full") {
    return {.config = {},
            .video = {.width = 848, .height = 480, .num_frames = 163},
            .sparsity = mochi_sparsity(),
            .num_text_tokens = 128,
            .num_encoder_tokens = 256,
            .product = 8192,
            .copy_values = std::int64_t{1} << 29,
            .batch_seconds = 0.02};
  }
  if (name == "micro") {
    return {.config = micro_config(),
            .video = {.width = 160, .height = 96, .num_frames = 13},
            .sparsity = micro_sparsity(),
            .num_text_tokens = 16,
            .num_encoder_tokens = 64,
            .product = 512,
            .copy_values = std::int64_t{1} << 22,
            .batch_seconds = 0.002};
  }
  refuse("size", "wanted 'full' or 'micro', found '{}'", name);
}

}  // namespace mochi::bench
