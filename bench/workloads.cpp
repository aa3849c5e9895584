#include "workloads.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/noise.h"
#include "bench/flops.h"

namespace mochi::bench {
namespace {

// Every workload has its own random values.
constexpr std::uint64_t kDecodeSeedOffset = 1;

Shape latents_shape(const Latents& size) {
  return {size.channels, size.num_frames, size.height, size.width};
}

Tensor encode_prompt(Backend& backend, const ModelDirectory& directory, const std::string& prompt) {
  Observer nobody;
  const TextNetwork text(directory, {backend, DType::kF32, nobody});
  Arena scratch(backend.allocator());
  Context ctx{backend, scratch};
  return text.encode(ctx, prompt, directory.config().dit.max_text_tokens, "prompt");
}

}  // namespace

Tensor draw_normal(Backend& backend, const Shape& shape, std::uint64_t seed) {
  const Tensor host(DType::kF32, shape);
  fill_normal(NoiseSource::kMochi, seed, host.view().f32());
  Tensor tensor(DType::kF32, shape, backend.allocator());
  backend.run(ops::Upload{.host = host, .target = tensor});
  return tensor;
}

std::vector<Shape> peak_gemm_sizes() {
  return {{4096, 4096, 4096}, {2048, 2048, 2048}, {1920, 768, 256}, {1920, 1024, 256}};
}

GemmWorkload::GemmWorkload(Backend& backend, std::int64_t rows, std::int64_t n, std::int64_t k)
    : backend_(backend),
      x_(draw_normal(backend, {rows, k}, 0)),
      weight_(draw_normal(backend, {n, k}, 1)),
      out_(DType::kF32, {rows, n}, backend.allocator()) {}

std::string GemmWorkload::name() const {
  return fmt::format("gemm {}x{}x{}", out_.view().dim(0), out_.view().dim(1), x_.view().dim(1));
}

double GemmWorkload::flops() const {
  return gemm_flops(out_.view().dim(0), out_.view().dim(1), x_.view().dim(1));
}

void GemmWorkload::run() { backend_.run(ops::Linear{.x = x_, .weight = weight_, .out = out_}); }

DitWorkload::DitWorkload(Backend& backend, const ModelDirectory& directory, const Setup& setup,
                         const Latents& size)
    : network_(directory, {}, {backend, DType::kF32, observer_}),
      scratch_(backend.allocator()),
      ctx_{backend, scratch_},
      sigma_(static_cast<float>(setup.sigma)),
      text_(encode_prompt(backend, directory, setup.prompt)),
      latents_(draw_normal(backend, latents_shape(size), setup.seed)),
      cond_velocity_(DType::kF32, latents_shape(size), backend.allocator()),
      null_velocity_(DType::kF32, latents_shape(size), backend.allocator()),
      cond_(network_.dit().condition(ctx_, text_)),
      run_(network_.dit().prepare(
          backend, network_.dit().token_grid(size.num_frames, size.height, size.width))) {
  const Tensor no_text(backend.activation_dtype(), {0, directory.config().dit.text_width},
                       backend.allocator());
  null_ = network_.dit().condition(ctx_, no_text);
}

double DitWorkload::flops() const {
  const DitConfig& config = network_.dit().config();
  return dit_flops(config, run_.grid, text().dim(0)) + dit_flops(config, run_.grid, 0);
}

void DitWorkload::run() {
  DensePolicy policy;
  const Dit& dit = network_.dit();
  dit.forward(ctx_, run_, {Branch::kCond, 0, sigma_}, cond_, policy, latents_, cond_velocity_);
  dit.forward(ctx_, run_, {Branch::kNull, 0, sigma_}, null_, policy, latents_, null_velocity_);
}

DecodeWorkload::DecodeWorkload(Backend& backend, const ModelDirectory& directory,
                               const Setup& setup, const Latents& size)
    : network_(directory, {backend, DType::kF32, observer_}),
      scratch_(backend.allocator()),
      ctx_{backend, scratch_},
      latents_(draw_normal(backend, latents_shape(size), setup.seed + kDecodeSeedOffset)) {}

double DecodeWorkload::flops() const {
  return decode_flops(network_.decoder().config(), latents().dim(1), latents().dim(2),
                      latents().dim(3));
}

void DecodeWorkload::run() {
  // Uses the engine's chunk size.
  decode_video(ctx_, network_.decoder(), latents_,
               ctx_.backend.device().preferred_chunks().latent_frames,
               [](std::span<const std::uint8_t> /*rgb*/, std::int64_t /*frame_idx*/) {});
}

Tensor DecodeWorkload::decode_frames() {
  const VaeConfig& config = network_.decoder().config();
  const std::int64_t scale = config.spatial_compression();
  Tensor frames(
      DType::kF32,
      {config.num_frames(latents().dim(1)), latents().dim(2) * scale, latents().dim(3) * scale, 3},
      ctx_.backend.allocator());
  const Arena::Scope scope(scratch_);
  VaeDecoderStream stream(ctx_.backend, network_.decoder(), latents().dim(2), latents().dim(3));
  ctx_.backend.run(ops::Copy{.source = stream.decode(ctx_, latents_), .target = frames});
  return frames;
}

}  // namespace mochi::bench
