// Decoding one video.
#include <fmt/format.h>

#include "bench/flops.h"
#include "bench/network.h"
#include "bench/op_bench.h"
#include "pipeline/request.h"
#include "vae/vae_decoder.h"

namespace mochi::bench {
namespace {

// Decodes one latent frame at a time, as the engine does. `out` receives all frames:
// [T', 8·rows, 8·columns, 3].
void decode_frames(Backend& backend, const VaeDecoder& decoder, const TensorView& latents,
                   const TensorView& out) {
  Arena scratch(backend.allocator());
  Context ctx{backend, scratch};
  const Arena::Scope scope(scratch);
  VaeDecoderStream stream(backend, decoder, latents.dim(2), latents.dim(3));
  backend.run(ops::Copy{.source = stream.decode(ctx, latents), .target = out});
}

double verify_vae(Session& session, const RandomNetwork<VaeDecoderWeights>& network) {
  const VaeConfig& config = session.sizes.config.vae;
  Backend& device = *session.backend;
  Backend& oracle = *session.oracle;
  std::deque<Tensor> tensors;
  const VaeDecoder decoder(device, network.weights);
  const VaeDecoder oracle_decoder(
      oracle, copy_for_oracle(device, oracle, VaeDecoderWeights(network.weights), tensors));
  const Shape shape{config.latent_channels, 2, 3, 5};
  const std::int64_t scale = config.spatial_compression();
  const Shape frames{config.num_frames(shape[1]), shape[2] * scale, shape[3] * scale, 3};
  RandomInputs inputs(device, session.next_seed++);
  const TensorView latents = inputs.f32(shape, kNoRows);
  const TensorView found = inputs.output(DType::kF32, frames, kNoRows);
  decode_frames(device, decoder, latents, found);
  LastRows same(oracle, device, inputs);
  const TensorView oracle_latents = same.f32(shape, kNoRows);
  const TensorView wanted = same.output(DType::kF32, frames, kNoRows);
  decode_frames(oracle, oracle_decoder, oracle_latents, wanted);
  return relative_error(download_last_rows(device, found, frames, kNoRows), wanted);
}

}  // namespace

void bench_vae(Session& session) {
  const VaeConfig& config = session.sizes.config.vae;
  std::vector<int> num_frames = session.request.num_frames;
  if (num_frames.empty()) num_frames = {session.sizes.video.num_frames};
  std::vector<Latents> sizes;
  for (const int frames : num_frames) {
    VideoSize video = session.sizes.video;
    video.num_frames = frames;
    sizes.push_back(size_latents(session.sizes.config, video));
  }
  measure_ceilings(session);
  const RandomNetwork network(*session.backend, session.backend->device().preferred_matrix_dtype(),
                              VaeDecoderWeights(config));
  const double error = verify_vae(session, network);
  const VaeDecoder decoder(*session.backend, network.weights);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const Latents& size = sizes[i];
    RandomInputs inputs(*session.backend, session.next_seed++);
    const TensorView latents =
        inputs.f32({size.channels, size.num_frames, size.height, size.width});
    Arena scratch(session.backend->allocator());
    Measurement result;
    result.name = "vae decode";
    result.num_frames = num_frames[i];
    result.size = fmt::format("{}×{}×{}", session.sizes.video.width, session.sizes.video.height,
                              num_frames[i]);
    result.relative_error = error;
    result.max_error = max_network_error(session.backend->activation_dtype());
    result.flops = decode_flops(config, size.num_frames, size.height, size.width);
    result.weight_bytes = network.store.size_bytes();
    measure_network(
        session,
        [&](Backend& backend) {
          Context ctx{backend, scratch, &session.request.should_stop};
          decode_video(ctx, decoder, latents, kChunkFrames,
                       [](std::span<const std::uint8_t> /*rgb*/, std::int64_t /*frame_idx*/) {});
        },
        result);
    session.add(std::move(result));
  }
}

}  // namespace mochi::bench
