// A whole generation, network after network: each is in memory only while it works.
#include <fmt/format.h>

#include <chrono>

#include "bench/dit_bench.h"
#include "bench/flops.h"
#include "bench/op_bench.h"
#include "pipeline/request.h"
#include "text/t5_encoder.h"
#include "vae/vae_decoder.h"

namespace mochi::bench {
namespace {

// Runs once and adds what it took.
void add_phase(Session& session, Measurement phase, std::size_t weight_bytes, const Task& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  session.backend->device().synchronize();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  phase.seconds = phase.fastest = phase.slowest = taken.count();
  phase.num_repetitions = 1;
  phase.weight_bytes = weight_bytes;
  phase.peak_bytes = session.peak_bytes();
  session.add(std::move(phase));
}

void run_text(Session& session, const TensorView& features) {
  const TextEncoderConfig& config = session.sizes.config.text_encoder;
  session.backend->device().restart_peak();
  const RandomNetwork network(*session.backend, session.storage(), T5Weights(config));
  const T5Encoder encoder(*session.backend, network.weights);
  const std::vector<std::int32_t> ids(static_cast<std::size_t>(features.dim(0)), 5);
  Arena scratch(session.backend->allocator());
  Measurement phase;
  phase.name = "text";
  phase.num_tokens = features.dim(0);
  phase.size = fmt::format("{} tokens", features.dim(0));
  phase.flops = t5_flops(config, features.dim(0));
  add_phase(session, phase, network.store.size_bytes(), [&] {
    Context ctx{*session.backend, scratch, &session.request.should_stop};
    encoder.encode(ctx, ids, features);
  });
}

void run_sampling(Session& session, const TensorView& features, const TensorView& z) {
  DitConfig config = session.sizes.config.dit;
  if (session.request.num_layers > 0) config.depth = session.request.num_layers;
  Backend& backend = *session.backend;
  backend.device().restart_peak();
  const RandomNetwork network(backend, session.storage(), DitWeights(config));
  const Dit dit(network.weights);
  GenerateRequest request = make_default_request(session.sizes.config.generation);
  request.num_steps = session.request.num_steps;
  request.linear_steps = 0;
  const StepPlan plan = make_step_plan(request);
  Arena scratch(backend.allocator());
  Context ctx{backend, scratch, &session.request.should_stop};
  const TokenGrid grid = dit.token_grid(z.dim(1), z.dim(2), z.dim(3));
  const DitRun run = dit.prepare(backend, grid, {}, plan.sigmas);
  const TextCondition cond = dit.condition(ctx, features);
  const Tensor no_text(backend.activation_dtype(), {0, config.text_width}, backend.allocator());
  const TextCondition null = dit.condition(ctx, no_text);
  DensePolicy policy;
  ForwardRecorder recorder;
  const auto denoise = [&](Branch branch, int step, double sigma, const TensorView& latents,
                           const TensorView& velocity) {
    DitCall call{.branch = branch, .step = step, .sigma = static_cast<float>(sigma)};
    call.recorder = &recorder;
    dit.forward(ctx, run, call, branch == Branch::kCond ? cond : null, policy, latents, velocity);
  };
  Measurement phase;
  phase.name = "sampling";
  phase.num_tokens = grid.num_tokens() + features.dim(0);
  phase.size = fmt::format("{} steps, {} tokens", plan.num_steps(), phase.num_tokens);
  phase.flops =
      plan.num_steps() * (dit_flops(config, grid, features.dim(0)) + dit_flops(config, grid, 0));
  add_phase(session, phase, network.store.size_bytes(),
            [&] { run_euler_loop(ctx, plan, denoise, [](int /*num_done*/) { return true; }, z); });
}

void run_decoding(Session& session, const TensorView& z) {
  const VaeConfig& config = session.sizes.config.vae;
  session.backend->device().restart_peak();
  const RandomNetwork network(*session.backend, session.backend->device().preferred_matrix_dtype(),
                              VaeDecoderWeights(config));
  const VaeDecoder decoder(*session.backend, network.weights);
  Arena scratch(session.backend->allocator());
  Measurement phase;
  phase.name = "decoding";
  phase.num_frames = static_cast<int>(config.num_frames(z.dim(1)));
  phase.size = fmt::format("{} frames", phase.num_frames);
  phase.flops = decode_flops(config, z.dim(1), z.dim(2), z.dim(3));
  add_phase(session, phase, network.store.size_bytes(), [&] {
    Context ctx{*session.backend, scratch, &session.request.should_stop};
    decode_video(ctx, decoder, z, kChunkFrames,
                 [](std::span<const std::uint8_t> /*rgb*/, std::int64_t /*frame_idx*/) {});
  });
}

}  // namespace

void bench_video(Session& session) {
  VideoSize video = session.sizes.video;
  if (!session.request.num_frames.empty()) video.num_frames = session.request.num_frames.front();
  const Latents size = size_latents(session.sizes.config, video);
  measure_ceilings(session);
  RandomInputs inputs(*session.backend, session.next_seed++);
  const TensorView features =
      inputs.output({session.sizes.num_text_tokens, session.sizes.config.text_encoder.hidden_size});
  const TensorView z = inputs.f32({size.channels, size.num_frames, size.height, size.width});
  run_text(session, features);
  run_sampling(session, features, z);
  run_decoding(session, z);
}

}  // namespace mochi::bench
