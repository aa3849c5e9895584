// Latents → frames, in time order and in pieces of any length: the result does not depend on how
// the latent frames are cut, and memory does not depend on how many there are.
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

// One video on its way through the decoder.
class VaeDecoderStream {
 public:
  // For latents of `rows`×`columns`. The decoder must outlive the stream.
  VaeDecoderStream(Backend& backend, const VaeDecoder& decoder, std::int64_t rows,
                   std::int64_t columns);

  // Frames that the next num_latent_frames ≥ 1 latent frames give.
  std::int64_t num_frames(std::int64_t num_latent_frames) const;

  // latents [latent_channels, t, rows, columns] f32, as the sampler sees them: the t frames behind
  // those of the last call. Returns [num_frames(t), rows·8, columns·8, 3], about −1 to 1, in
  // ctx.scratch: the caller's Arena::Scope ends its life.
  TensorView decode(Context& ctx, const TensorView& latents);

 private:
  // The past of one residual block's two convolutions.
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
  std::vector<std::vector<BlockCache>> caches_;  // per stage: input, up blocks, output
  bool is_start_ = true;                         // nothing has been decoded yet
};

// Decodes latents [latent_channels, T, rows, columns] (f32, on the backend's device) `chunk_frames`
// latent frames at a time and hands over each frame in order as soon as its chunk is done.
void decode_video(Context& ctx, const VaeDecoder& decoder, const TensorView& latents,
                  std::int64_t chunk_frames, const FrameSink& sink);

}  // namespace mochi
