// Decoding of latents to frames, in time order and in chunks of any length. The result does not
// depend on the chunks, and memory use does not depend on the number of latent frames.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mochi/frame_sink.h"
#include "vae/vae_weights.h"

namespace mochi {

class VaeDecoder {
 public:
  // The views in `weights` must stay valid.
  VaeDecoder(Backend& backend, VaeDecoderWeights weights);

  const VaeConfig& config() const { return weights_.config; }

 private:
  friend class VaeDecoderStream;

  VaeDecoderWeights weights_;
  Tensor latent_std_, latent_mean_;  // [latent_channels]
};

// The state of one video in the decoder.
class VaeDecoderStream {
 public:
  // Decodes latents of `rows`×`columns`. The decoder must outlive the stream.
  VaeDecoderStream(Backend& backend, const VaeDecoder& decoder, std::int64_t rows,
                   std::int64_t columns);

  // Returns how many frames the next num_latent_frames ≥ 1 latent frames produce.
  std::int64_t num_frames(std::int64_t num_latent_frames) const;

  // Decodes latents [latent_channels, t, rows, columns] f32, as the sampler has them: the t latent
  // frames after those of the last call. Returns [num_frames(t), rows·8, columns·8, 3], about −1 to
  // 1, in ctx.scratch; the caller's Arena::Scope ends its life.
  TensorView decode(Context& ctx, const TensorView& latents);

 private:
  // The past of a residual block's two convolutions.
  struct BlockCache {
    Tensor conv1, conv2;
  };

  void add_stage(Backend& backend, std::size_t num_res_blocks, const Shape& x);
  void run_res_blocks(Context& ctx, std::size_t stage, std::span<const ResBlockWeights> blocks,
                      const TensorView& x);
  TensorView run_up_block(Context& ctx, std::size_t up_idx, const TensorView& x);
  void upsample(Context& ctx, std::size_t up_idx, const TensorView& x, const TensorView& out);

  const VaeDecoder& decoder_;
  std::int64_t rows_;
  std::int64_t columns_;
  std::vector<std::vector<BlockCache>> caches_;  // by stage: input, up blocks, output
  bool is_start_ = true;                         // true until something has been decoded
};

// Decodes latents [latent_channels, T, rows, columns] (f32, on the backend's device) in chunks of
// `chunk_frames` latent frames. The sink receives each frame in order as soon as its chunk is
// complete.
void decode_video(Context& ctx, const VaeDecoder& decoder, const TensorView& latents,
                  std::int64_t chunk_frames, const FrameSink& sink);

}  // namespace mochi
