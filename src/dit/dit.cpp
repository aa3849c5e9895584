#include "dit/dit.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"

namespace mochi {
namespace {

constexpr float kNormEps = 1e-6F;    // for the modulated norms and the residuals
constexpr float kQkNormEps = 1e-5F;  // for the norm of queries and keys
// Key of the passes that skip the blocks, unlike those of any policy.
constexpr GraphKey kSkippedBlocks{.kind = ~std::uint32_t{0}};

TensorView linear(Context& ctx, const MatrixView& x, const LinearWeights& weights,
                  Activation activation = Activation::kNone) {
  const TensorView out = ctx.activation({x.dim(0), weights.weight.dim(0)});
  ctx.run(ops::Linear{.x = x,
                      .weight = weights.weight,
                      .bias = weights.bias,
                      .out = out,
                      .activation = activation});
  return out;
}

// Returns the sinusoid of 1000·(1 − sigma): cosines, then sines, of num_features/2 frequencies from
// 1 down to almost 1/10000. It is computed in double, because the angles go up to 1000, where fp32
// loses the last digits.
std::vector<float> timestep_features(float sigma, std::int64_t num_features) {
  const std::int64_t half = num_features / 2;
  const double timestep = 1000.0 * (1.0 - static_cast<double>(sigma));
  std::vector<float> features(static_cast<std::size_t>(num_features));
  for (std::int64_t k = 0; k < half; ++k) {
    const double frequency =
        std::exp(-std::log(10000.0) * static_cast<double>(k) / static_cast<double>(half));
    features[static_cast<std::size_t>(k)] = static_cast<float>(std::cos(timestep * frequency));
    features[static_cast<std::size_t>(half + k)] =
        static_cast<float>(std::sin(timestep * frequency));
  }
  return features;
}

// Returns the idx-th part of `width` elements of a [width·n] vector.
TensorView part(const TensorView& modulation, std::int64_t width, std::int64_t idx) {
  return modulation.reshape({modulation.num_elements()}).rows(idx * width, (idx + 1) * width);
}

}  // namespace

// One stream inside a block. A residual also computes the normalised tokens for the next operation
// where possible.
struct Dit::Stream {
  Stream(Context& ctx, const Shape& shape, std::int64_t first_token)
      : tokens(ctx.activation(shape)),
        normed(ctx.activation(shape)),
        scales(ctx.scratch.allocate(DType::kF32, {shape[0]})),
        modulation(ctx.activation({kNumParts * shape[1]})),
        next_modulation(ctx.activation({kNumParts * shape[1]})),
        offset(first_token) {}

  static constexpr std::int64_t kNumParts = 4;

  TensorView tokens;           // [tokens, width], the residual stream
  TensorView normed;           // [tokens, width], the input of attention or the MLP
  TensorView scales;           // [tokens] f32, of `normed` if it is quantised
  TensorView modulation;       // [4·width]; for the last block's text stream only the first part
  TensorView next_modulation;  // modulation of the next block
  std::int64_t offset;         // position of its tokens in the joint sequence
  TensorView cos, sin;         // rotary table, or empty
  const StreamWeights* weights = nullptr;

  std::int64_t num_tokens() const { return tokens.dim(0); }
  std::int64_t width() const { return tokens.dim(1); }
  bool has_output() const { return static_cast<bool>(weights->proj.weight); }
  TensorView part(const TensorView& parts, std::int64_t idx) const {
    return parts.rows(idx * width(), (idx + 1) * width());
  }
  TensorView gate_attention() const { return part(modulation, 1); }
  TensorView scale_mlp() const { return part(modulation, 2); }
  TensorView gate_mlp() const { return part(modulation, 3); }
  TensorView next_scale_attention() const { return part(next_modulation, 0); }

  // Returns `normed` as rows that a product with `weight` takes.
  MatrixView normed_for(const LinearWeights& layer) const {
    const MatrixView& weight = layer.weight;
    if (!weight.is_quantised()) return normed;
    return {TensorView(normed.bytes(), weight.dtype(), normed.shape(), normed.device()), scales};
  }

  void find_next_modulation(Context& ctx, const TensorView& c, const LinearWeights& mod) const {
    const std::int64_t size = mod.weight.dim(0);
    ctx.run(ops::Linear{.x = c,
                        .weight = mod.weight,
                        .bias = mod.bias,
                        .out = next_modulation.rows(0, size).reshape({1, size})});
  }

  // Computes `normed` for a block if the previous one did not.
  void prepare(Context& ctx, const TensorView& c, const StreamWeights& block) const {
    find_next_modulation(ctx, c, block.mod);
    ctx.run(ops::NormModulate{.x = tokens,
                              .scale = next_scale_attention(),
                              .eps = kNormEps,
                              .out = normed_for(block.qkv)});
  }

  // Moves on to the block whose modulation has been computed.
  void enter(const StreamWeights& block) {
    weights = &block;
    std::swap(modulation, next_modulation);
  }

  // tokens += norm(proj(attended))·tanh(gate), with attended [tokens, hidden_size_x]. Also sets
  // `normed` for the MLP.
  void add_attention(Context& ctx, const TensorView& attended) const {
    const Arena::Scope scope(ctx.scratch);
    MatrixView rows = attended;
    if (weights->proj.weight.is_quantised()) {
      rows = ctx.rows_for(weights->proj.weight, num_tokens());
      ctx.run(ops::QuantiseRows{.x = attended, .out = rows});
    }
    const TensorView projected = linear(ctx, rows, {weights->proj.weight, {}});
    ctx.run(ops::GatedResidual{.r = projected,
                               .bias = weights->proj.bias,
                               .gate = gate_attention(),
                               .x = tokens,
                               .next_scale = scale_mlp(),
                               .next_out = normed_for(weights->mlp_w1),
                               .eps = kNormEps});
  }

  // tokens += norm(mlp(inputs))·tanh(gate). Also sets `normed` for the next block if there is one.
  template <typename Mlp>
  void add_mlp(Context& ctx, const StreamWeights* next, Mlp mlp) const {
    const Arena::Scope scope(ctx.scratch);
    const MlpInputs in{normed_for(weights->mlp_w1), weights->mlp_w1.weight, weights->mlp_w2.weight};
    ops::GatedResidual residual{.r = mlp(in), .gate = gate_mlp(), .x = tokens, .eps = kNormEps};
    if (next != nullptr) {
      residual.next_scale = next_scale_attention();
      residual.next_out = normed_for(next->qkv);
    }
    ctx.run(residual);
  }
};

TextCondition Dit::condition(Context& ctx, const TensorView& features) const {
  const DitConfig& config = weights_.config;
  Backend& backend = ctx.backend;
  const std::int64_t width = config.text_width;
  const std::int64_t head_dim = width / config.pooler_heads;
  const std::int64_t num_tokens = features.dim(0);
  const DType dtype = backend.activation_dtype();
  TextCondition result{Tensor(dtype, {1, config.hidden_size_x}, backend.allocator()),
                       Tensor(dtype, {num_tokens, config.hidden_size_y}, backend.allocator())};
  backend.run(ops::Linear{.x = features,
                          .weight = weights_.text_proj.weight,
                          .bias = weights_.text_proj.bias,
                          .out = result.tokens});

  // Attention pooling: the mean token is the query; it and all tokens are keys and values.
  const Arena::Scope scope(ctx.scratch);
  const TensorView tokens = ctx.activation({num_tokens + 1, width});
  backend.run(ops::MeanRows{.x = features, .out = tokens.rows(0, 1)});
  backend.run(ops::Copy{.source = features, .target = tokens.rows(1, num_tokens + 1)});
  const TensorView q = linear(ctx, tokens.rows(0, 1), weights_.pooler_q);
  const TensorView kv = linear(ctx, tokens, weights_.pooler_kv);
  AttentionInputs in;
  in.q = HeadsView(q, config.pooler_heads, head_dim);
  in.k = HeadsView(kv, config.pooler_heads, head_dim);
  in.v = HeadsView(kv, config.pooler_heads, head_dim, width);
  in.scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  const TensorView attended = ctx.activation({1, width});
  backend.run(ops::Attention{.in = in, .to = {attended}});
  backend.run(ops::Linear{.x = attended,
                          .weight = weights_.pooler_out.weight,
                          .bias = weights_.pooler_out.bias,
                          .out = result.pooled});
  return result;
}

TokenGrid Dit::token_grid(std::int64_t frames, std::int64_t rows, std::int64_t columns) const {
  const std::int64_t patch = weights_.config.patch_size;
  if (frames < 1 || rows < patch || columns < patch || rows % patch != 0 || columns % patch != 0) {
    fail("latents of {} frames, {} rows and {} columns do not divide into patches of {}", frames,
         rows, columns, patch);
  }
  return {frames, rows / patch, columns / patch};
}

DitRun Dit::prepare(Backend& backend, const TokenGrid& grid, std::span<const std::int32_t> order,
                    std::span<const double> sigmas) const {
  DitRun run{.grid = grid,
             .rotary = make_rotary_table(backend, weights_.pos_frequencies, grid, order)};
  if (!sigmas.empty()) {
    const std::int64_t num_features = weights_.config.timestep_features;
    const Tensor host(DType::kF32, {std::ssize(sigmas), num_features});
    auto row = host.view().f32().begin();
    for (const double sigma : sigmas) {
      row = std::ranges::copy(timestep_features(static_cast<float>(sigma), num_features), row).out;
    }
    run.timesteps = Tensor(DType::kF32, host.view().shape(), backend.allocator());
    backend.run(ops::Upload{.host = host, .target = run.timesteps});
  }
  if (order.empty()) return run;
  const Shape shape{grid.num_tokens()};
  const Tensor host(DType::kI32, shape);
  const auto upload = [&](std::span<const std::int32_t> values) {
    std::memcpy(host.view().bytes(), values.data(), values.size_bytes());
    Tensor tensor(DType::kI32, shape, backend.allocator());
    backend.run(ops::Upload{.host = host, .target = tensor});
    return tensor;
  };
  if (std::ssize(order) != grid.num_tokens()) {
    fail("token order: wanted {} tokens, found {}", grid.num_tokens(), order.size());
  }
  run.order = upload(order);
  run.positions = upload(invert_order(order));
  return run;
}

TensorView Dit::conditioning(Context& ctx, const DitRun& run, const DitCall& call,
                             const TensorView& pooled) const {
  Backend& backend = ctx.backend;
  const std::int64_t num_features = weights_.config.timestep_features;
  const Shape shape{1, num_features};
  TensorView f32_features;
  if (run.timesteps) {
    f32_features = run.timesteps.view().rows(call.step, call.step + 1);
  } else {
    std::vector<float> host = timestep_features(call.sigma, num_features);
    f32_features = ctx.scratch.allocate(DType::kF32, shape);
    backend.run(
        ops::Upload{.host = TensorView(host.data(), DType::kF32, shape), .target = f32_features});
  }
  const TensorView features = ctx.activation(shape);
  backend.run(ops::Copy{.source = f32_features, .target = features});

  const TensorView hidden = linear(ctx, features, weights_.timestep_in, Activation::kSilu);
  const TensorView c = linear(ctx, hidden, weights_.timestep_out);
  backend.run(ops::Add{.a = c, .b = pooled, .out = c});
  backend.run(ops::Silu{.x = c, .out = c});
  return c;
}

void Dit::attend(Context& ctx, std::size_t layer, const DitCall& call, BlockPolicy& policy,
                 const Stream& x, const Stream& y) const {
  const Arena::Scope scope(ctx.scratch);
  const DitConfig& config = weights_.config;
  const std::int64_t num_tokens = x.num_tokens() + y.num_tokens();
  const Shape joint{config.num_heads, num_tokens, config.head_dim()};
  AttentionInputs in;
  in.q = ctx.activation(joint);
  in.k = ctx.activation(joint);
  in.v = ctx.activation(joint);
  in.scale = 1.0F / std::sqrt(static_cast<float>(config.head_dim()));
  for (const Stream* stream : {&x, &y}) {
    const StreamWeights& weights = *stream->weights;
    ctx.run(ops::QkvLinear{
        .x = stream->normed_for(weights.qkv),
        .weight = weights.qkv.weight,
        .norm = {weights.q_norm, weights.k_norm, stream->cos, stream->sin, kQkNormEps},
        .offset = stream->offset,
        .scratch = ctx.scratch,
        .q = in.q.tensor,
        .k = in.k.tensor,
        .v = in.v.tensor});
  }
  const TensorView attended = ctx.activation({num_tokens, config.hidden_size_x});
  policy.attend(ctx, {call.branch, static_cast<int>(layer)}, call.step, in, attended);
  for (const Stream* stream : {&x, &y}) {
    if (!stream->has_output()) continue;
    stream->add_attention(ctx,
                          attended.rows(stream->offset, stream->offset + stream->num_tokens()));
  }
}

void Dit::run_block(Context& ctx, std::size_t layer, const DitCall& call, const TensorView& c,
                    BlockPolicy& policy, Stream& x, Stream& y) const {
  const Arena::Scope scope(ctx.scratch);
  const BlockWeights& block = weights_.blocks[layer];
  if (layer == 0 || !looks_ahead()) {
    x.prepare(ctx, c, block.x);
    y.prepare(ctx, c, block.y);
  }
  x.enter(block.x);
  y.enter(block.y);
  const BlockWeights* const next =
      looks_ahead() && layer + 1 < weights_.blocks.size() ? &weights_.blocks[layer + 1] : nullptr;
  if (next != nullptr) {
    x.find_next_modulation(ctx, c, next->x.mod);
    y.find_next_modulation(ctx, c, next->y.mod);
  }
  attend(ctx, layer, call, policy, x, y);
  ctx.check_stop();
  const Site site{call.branch, static_cast<int>(layer)};
  x.add_mlp(ctx, next != nullptr ? &next->x : nullptr,
            [&](const MlpInputs& in) { return policy.run_mlp(ctx, site, call.step, in); });
  if (y.has_output()) {
    y.add_mlp(ctx, next != nullptr ? &next->y : nullptr,
              [&](const MlpInputs& in) { return dense_mlp(ctx, in); });
  }
}

void Dit::embed_patches(Context& ctx, const DitRun& run, const TensorView& latents,
                        const TensorView& x) const {
  const Arena::Scope scope(ctx.scratch);
  const DitConfig& config = weights_.config;
  const std::int64_t width = config.latent_channels * config.patch_size * config.patch_size;
  TensorView patches = ctx.activation({x.dim(0), width});
  ctx.run(ops::Patchify{
      .latents = latents, .patch_size = static_cast<int>(config.patch_size), .tokens = patches});
  if (run.order) {
    const TensorView ordered = ctx.activation(patches.shape());
    ctx.run(ops::GatherRows{.x = patches, .indices = run.order, .out = ordered});
    patches = ordered;
  }
  ctx.run(ops::Linear{.x = patches,
                      .weight = weights_.patch_weight.reshape({config.hidden_size_x, width}),
                      .bias = weights_.patch_bias,
                      .out = x});
}

void Dit::finish(Context& ctx, const DitRun& run, const TensorView& tokens, const TensorView& c,
                 const TensorView& velocity) const {
  const std::int64_t width = weights_.config.hidden_size_x;
  const TensorView modulation = linear(ctx, c, weights_.final_mod);
  const TensorView normed = ctx.activation(tokens.shape());
  ctx.run(ops::LayerNormModulate{.x = tokens,
                                 .shift = part(modulation, width, 0),
                                 .scale = part(modulation, width, 1),
                                 .eps = kNormEps,
                                 .out = normed});
  TensorView patches = linear(ctx, normed, weights_.final_linear);
  if (run.positions) {
    const TensorView raster = ctx.activation(patches.shape());
    ctx.run(ops::GatherRows{.x = patches, .indices = run.positions, .out = raster});
    patches = raster;
  }
  ctx.run(ops::Unpatchify{.tokens = patches,
                          .patch_size = static_cast<int>(weights_.config.patch_size),
                          .latents = velocity});
}

void Dit::run_blocks(Context& ctx, const DitRun& run, const DitCall& call, const TensorView& c,
                     const TextCondition& text, BlockPolicy& policy, const TensorView& latents,
                     const TensorView& velocity) const {
  const Arena::Scope scope(ctx.scratch);
  const std::int64_t num_tokens = run.grid.num_tokens();
  Stream x(ctx, {num_tokens, weights_.config.hidden_size_x}, 0);
  x.cos = run.rotary.cos;
  x.sin = run.rotary.sin;
  Stream y(ctx, text.tokens.view().shape(), num_tokens);
  policy.begin_blocks(ctx, call.branch, call.step);
  embed_patches(ctx, run, latents, x.tokens);
  ctx.run(ops::Copy{.source = text.tokens, .target = y.tokens});
  for (std::size_t layer = 0; layer < weights_.blocks.size(); ++layer) {
    ctx.check_stop();
    if (streamer_ != nullptr) streamer_->begin(layer);
    run_block(ctx, layer, call, c, policy, x, y);
    if (call.on_layer) call.on_layer(call.branch, layer, x.tokens);
  }
  policy.end_blocks(ctx);
  if (call.kept_hidden) ctx.run(ops::Copy{.source = x.tokens, .target = call.kept_hidden});
  finish(ctx, run, x.tokens, c, velocity);
}

void Dit::forward(Context& ctx, const DitRun& run, const DitCall& call, const TextCondition& text,
                  BlockPolicy& policy, const TensorView& latents,
                  const TensorView& velocity) const {
  ctx.check_stop();
  const Arena::Scope scope(ctx.scratch);
  const TensorView c = conditioning(ctx, run, call, text.pooled);
  const TensorView& cached = call.cached_hidden;
  if (!cached) policy.begin_forward(ctx, call.branch, call.step);
  const auto run_with = [&](Context& inner) {
    if (cached) {
      finish(inner, run, cached, c, velocity);
    } else {
      run_blocks(inner, run, call, c, text, policy, latents, velocity);
    }
  };
  // Not captured: streamed weights, which another stream copies, and calls with on_layer, which
  // waits for each layer.
  const bool is_captured = call.recorder != nullptr && streamer_ == nullptr && !call.on_layer;
  std::optional<GraphKey> key;
  if (is_captured && cached) key = kSkippedBlocks;
  if (is_captured && !cached) key = policy.graph_key(call.branch, call.step);
  if (!key) {
    run_with(ctx);
    return;
  }
  // Nothing can stop a captured graph; a CPU captures none.
  Context captured{ctx.backend, ctx.scratch};
  if (ctx.backend.device().device().is_cpu()) captured.should_stop = ctx.should_stop;
  call.recorder->run(ctx.backend.device(), call.branch, *key, [&] { run_with(captured); });
}

}  // namespace mochi
