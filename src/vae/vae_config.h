// Sizes of the video VAE. The defaults are those of Mochi 1 preview.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mochi {

class JsonReader;
class TensorSource;

struct VaeConfig {
  // Far above any sensible size, but small enough that products of a few sizes cannot overflow.
  static constexpr std::int64_t kMaxSize = 1 << 16;

  std::int64_t latent_channels = 12;
  std::int64_t norm_groups = 32;
  // Widths of the stages and residual blocks per stage, from the latents to the frames: the widest
  // stage, the up blocks, the last stage.
  std::vector<std::int64_t> decoder_channels{768, 512, 256, 128};
  std::vector<std::int64_t> decoder_res_blocks{3, 6, 4, 3, 3};
  // Widths and residual blocks from the frames to the latents: the first stage, the down blocks,
  // the last stage.
  std::vector<std::int64_t> encoder_channels{64, 128, 256, 384};
  std::vector<std::int64_t> encoder_res_blocks{3, 3, 4, 6, 3};
  std::vector<bool> encoder_attention{false, true, true, true, true};
  std::int64_t encoder_attention_head_dim = 32;
  // Upsampling of each up block in decoding order; the encoder uses them in reverse order.
  std::vector<std::int64_t> temporal_factors{3, 2, 1};
  std::vector<std::int64_t> spatial_factors{2, 2, 2};
  std::vector<std::int64_t> fourier_frequencies{6, 7};  // exponents of two
  // Statistics of the latents, per channel: the transformer sees (z − mean) / std.
  std::vector<double> latent_mean{
      -0.06730895953510081, -0.038011381506090416, -0.07477820912866141,  -0.05565264470995561,
      0.012767231469026969, -0.04703542746246419,  0.043896967884726704,  -0.09346305707025976,
      -0.09918314763016893, -0.008729793427399178, -0.011931556316503654, -0.0321993391887285};
  std::vector<double> latent_std{0.9263795028493863, 0.9248894543193766, 0.9393059390890617,
                                 0.959253732819592,  0.8244560132752793, 0.917259975397747,
                                 0.9294154431013696, 1.3720942357788521, 0.881393668867029,
                                 0.9168315692124348, 0.9185249279345552, 0.9274757570805041};

  std::int64_t num_up_blocks() const {
    return static_cast<std::int64_t>(decoder_channels.size()) - 1;
  }
  std::int64_t spatial_compression() const;   // 8: pixels per latent row or column
  std::int64_t temporal_compression() const;  // 6
  // Frames = 6·(latent_frames − 1) + 1, and the inverse. num_latent_frames throws Error for other
  // frame counts.
  std::int64_t num_frames(std::int64_t num_latent_frames) const;
  std::int64_t num_latent_frames(std::int64_t num_frames) const;

  // Throws Error if sizes are not positive or do not fit together. The message begins with `prefix`
  // and the field.
  void validate(const std::string& prefix = "vae.") const;
};

// Reads the "vae" section of a config.json. Missing keys keep their defaults; unknown keys are
// errors. The result is valid.
VaeConfig parse_vae_config(JsonReader& section);

// Infers the configuration for checkpoints without a config.json from the tensors of the decoder,
// the encoder or both; either may be null. Sizes that they do not determine keep their defaults.
VaeConfig infer_vae_config(const TensorSource* decoder, const TensorSource* encoder);

}  // namespace mochi
