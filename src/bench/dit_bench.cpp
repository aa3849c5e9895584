// One forward pass of the transformer, dense, for one branch.
#include "bench/dit_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "bench/flops.h"
#include "bench/op_bench.h"
#include "pipeline/request.h"

namespace mochi::bench {
namespace {

constexpr float kSigma = 0.75F;
constexpr int kMaxSteps = 64;
const std::vector<double> kSigmas(kMaxSteps, kSigma);

Shape shape_of_latents(const DitConfig& config, std::int64_t frames, std::int64_t rows,
                       std::int64_t columns) {
  return {config.latent_channels, frames, rows, columns};
}

// Compares two layers on few tokens, since the oracle is slow. Returns the relative error.
double verify_dit(Session& session) {
  DitConfig config = session.sizes.config.dit;
  config.depth = std::min<std::int64_t>(config.depth, 2);
  Backend& device = *session.backend;
  Backend& oracle = *session.oracle;
  const RandomNetwork network(device, session.storage(), DitWeights(config));
  std::deque<Tensor> tensors;
  const Dit dit(network.weights);
  const Dit oracle_dit(copy_for_oracle(device, oracle, DitWeights(network.weights), tensors));

  const Shape shape = shape_of_latents(config, 2, 4 * config.patch_size, 5 * config.patch_size);
  RandomInputs inputs(device, session.next_seed++);
  const TensorView text = inputs.activations({7, config.text_width}, kNoRows);
  const TensorView latents = inputs.f32(shape, kNoRows);
  const TensorView velocity = inputs.output(DType::kF32, shape, kNoRows);
  run_dit(device, dit, text, latents, velocity);
  LastRows same(oracle, device, inputs);
  const TensorView oracle_text = same.activations(text.shape(), kNoRows);
  const TensorView oracle_latents = same.f32(shape, kNoRows);
  const TensorView wanted = same.output(DType::kF32, shape, kNoRows);
  run_dit(oracle, oracle_dit, oracle_text, oracle_latents, wanted);
  return relative_error(download_last_rows(device, velocity, shape, kNoRows), wanted);
}

}  // namespace

Shape latents_shape(const DitConfig& config, const Latents& latents) {
  return {config.latent_channels, latents.num_frames, latents.height, latents.width};
}

std::vector<int> frames_of(const Session& session) {
  if (!session.request.num_frames.empty()) return session.request.num_frames;
  return {session.sizes.video.num_frames};
}

DitRunner::DitRunner(Session& session, const Dit& dit, const Shape& latents,
                     const SparsityConfig* sparsity)
    : backend_(*session.backend),
      should_stop_(session.request.should_stop),
      dit_(dit),
      inputs_(*session.backend, session.next_seed++),
      scratch_(session.backend->allocator()),
      latents_(inputs_.f32(latents)),
      velocity_(inputs_.output(DType::kF32, latents)),
      sparse_(sparsity == nullptr
                  ? nullptr
                  : std::make_unique<ColumnSparsePolicy>(
                        *sparsity, dit.token_grid(latents[1], latents[2], latents[3]), 1)),
      run_(dit.prepare(*session.backend, dit.token_grid(latents[1], latents[2], latents[3]),
                       sparse_ ? sparse_->token_order() : std::span<const std::int32_t>(),
                       kSigmas)) {
  Context ctx{*session.backend, scratch_, &should_stop_};
  text_ = dit.condition(
      ctx, inputs_.activations({session.sizes.num_text_tokens, dit.config().text_width}));
}

void DitRunner::run(Backend& backend, int step) {
  Context ctx{backend, scratch_, &should_stop_};
  BlockPolicy& policy = sparse_ ? static_cast<BlockPolicy&>(*sparse_) : dense_;
  DitCall call{.branch = Branch::kCond, .step = step, .sigma = kSigma};
  // Captured, as in a generation, unless a profile must see every operation.
  if (&backend == &backend_) call.recorder = &recorder_;
  dit_.forward(ctx, run_, call, text_, policy, latents_, velocity_);
}

void DitRunner::allocate_state(std::uint64_t available_bytes) {
  const DitConfig& config = dit_.config();
  const StateSizes sizes{.num_layers = static_cast<int>(config.depth),
                         .num_heads = config.num_heads,
                         .head_dim = config.head_dim(),
                         .mlp_hidden = config.mlp_hidden_x,
                         .mlp_dtype = dit_.mlp_dtype(),
                         .num_tokens = {run_.grid.num_tokens() + text_.tokens.view().dim(0), 0}};
  sparse_->allocate(backend_, sizes, available_bytes, {});
}

bool DitRunner::is_finite() {
  const Tensor host = download_last_rows(backend_, velocity_, velocity_.shape(), kNoRows);
  return std::ranges::all_of(host.view().f32(), [](float value) { return std::isfinite(value); });
}

void run_dit(Backend& backend, const Dit& dit, const TensorView& text, const TensorView& latents,
             const TensorView& velocity) {
  Arena scratch(backend.allocator());
  Context ctx{backend, scratch};
  const TextCondition condition = dit.condition(ctx, text);
  const DitRun run =
      dit.prepare(backend, dit.token_grid(latents.dim(1), latents.dim(2), latents.dim(3)));
  DensePolicy policy;
  dit.forward(ctx, run, {Branch::kCond, 0, kSigma}, condition, policy, latents, velocity);
}

void bench_dit(Session& session) {
  DitConfig config = session.sizes.config.dit;
  if (session.request.num_layers > 0) config.depth = session.request.num_layers;
  std::vector<Latents> sizes;
  for (const int num_frames : frames_of(session)) {
    VideoSize video = session.sizes.video;
    video.num_frames = num_frames;
    sizes.push_back(size_latents(session.sizes.config, video));  // finds what is wrong first
  }
  measure_ceilings(session);
  const double error = verify_dit(session);
  const RandomNetwork network(*session.backend, session.storage(), DitWeights(config));
  const Dit dit(network.weights);
  DitRunner smallest(session, dit,
                     shape_of_latents(config, 1, config.patch_size, config.patch_size));
  const double launch_seconds =
      measure_launches(*session.backend, [&] { smallest.run(*session.backend); });
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const Latents& latents = sizes[i];
    const Shape shape = latents_shape(config, latents);
    DitRunner runner(session, dit, shape);
    Measurement result;
    result.name = "dit forward";
    result.num_frames = frames_of(session)[i];
    result.num_tokens = runner.grid().num_tokens() + session.sizes.num_text_tokens;
    result.size = fmt::format("{} frames, {} tokens, {} layers", result.num_frames,
                              result.num_tokens, config.depth);
    result.relative_error = error;
    result.max_error = max_network_error(session.backend->activation_dtype());
    result.flops = dit_flops(config, runner.grid(), session.sizes.num_text_tokens);
    result.weight_bytes = network.store.size_bytes();
    if (!session.backend->device().device().is_cpu()) result.launch_seconds = launch_seconds;
    measure_network(session, [&](Backend& backend) { runner.run(backend); }, result);
    if (!runner.is_finite()) result.problem = "the velocity is not finite";
    session.add(std::move(result));
  }
}

}  // namespace mochi::bench
