// Encoding of frames to latents, for a whole clip at once.
#pragma once

#include "vae/vae_weights.h"

namespace mochi {

class VaeEncoder {
 public:
  // The views in `weights` must stay valid.
  VaeEncoder(Backend& backend, VaeEncoderWeights weights);

  const VaeConfig& config() const { return weights_.config; }

  // Returns [latent_channels, T', H/8, W/8] for frames [T, H, W, 3]. Throws Error if T is not 6·k +
  // 1 or if H and W are not multiples of 8.
  Shape latent_shape(const Shape& frames) const;

  // Encodes frames f32 [T, H, W, 3] in [−1, 1] to posterior f32 [2·latent_channels, T', H/8, W/8]:
  // the means, then the logarithms of the variances. Frames of the activation dtype are also
  // accepted, but BF16 loses the sines of the highest frequencies.
  void encode_posterior(Context& ctx, const TensorView& frames, const TensorView& posterior) const;

  // Computes the means in the form that the transformer uses: latents f32 =
  // (mean − latent_mean) / latent_std.
  void encode(Context& ctx, const TensorView& frames, const TensorView& latents) const;

 private:
  // Returns [T', H/8, W/8, 2·latent_channels] in ctx.scratch.
  TensorView forward(Context& ctx, const TensorView& frames) const;
  // Sets x to the input of stage `stage`, by running the frames through the stages before it.
  void fill_stage_input(Context& ctx, std::size_t stage, const TensorView& frames,
                        const TensorView& x) const;
  void run_input(Context& ctx, const TensorView& frames, const TensorView& x) const;
  void run_stage(Context& ctx, const EncoderStageWeights& stage, const TensorView& x) const;
  void run_attention(Context& ctx, const AttentionBlockWeights& weights, const TensorView& x) const;

  VaeEncoderWeights weights_;
  Tensor latent_scale_, latent_mean_;       // [latent_channels]; scale = 1 / std
  Tensor identity_scale_, identity_shift_;  // [2·latent_channels]
};

}  // namespace mochi
