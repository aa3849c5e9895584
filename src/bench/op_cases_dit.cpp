// Operations of the transformer and of the sampler.
#include <fmt/format.h>

#include <cmath>

#include "bench/op_cases.h"
#include "pipeline/request.h"

namespace mochi::bench {
namespace {

struct Tokens {
  std::int64_t visual, text;
  Latents latents;  // without values
  std::int64_t all() const { return visual + text; }
};

Tokens count_tokens(const Sizes& sizes) {
  const Latents latents = size_latents(sizes.config, sizes.video);
  const std::int64_t patch = sizes.config.dit.patch_size;
  return {latents.num_frames * (latents.height / patch) * (latents.width / patch),
          sizes.num_text_tokens, latents};
}

std::vector<OpCase> linears(const DitConfig& dit, const Tokens& tokens) {
  const std::int64_t x = dit.hidden_size_x;
  const std::int64_t y = dit.hidden_size_y;
  return {linear_case("qkv", tokens.visual, x, 3 * x, false),
          linear_case("proj", tokens.visual, x, x, true),
          linear_case("mlp w1", tokens.visual, x, 2 * dit.mlp_hidden_x, false),
          linear_case("mlp w2", tokens.visual, dit.mlp_hidden_x, x, false),
          linear_case("mod", 1, x, 4 * x, true),
          linear_case("patches", tokens.visual,
                      dit.latent_channels * dit.patch_size * dit.patch_size, x, true),
          linear_case("final", tokens.visual, x,
                      dit.latent_channels * dit.patch_size * dit.patch_size, true),
          linear_case("qkv of text", tokens.text, y, 3 * x, false),
          linear_case("proj of text", tokens.text, x, y, true),
          linear_case("mlp w1 of text", tokens.text, y, 2 * dit.mlp_hidden_y, false),
          linear_case("mlp w2 of text", tokens.text, dit.mlp_hidden_y, y, false)};
}

OpCase attention_case(const std::string& what, std::int64_t num_heads, std::int64_t num_queries,
                      std::int64_t num_keys, std::int64_t head_dim, bool has_lse) {
  return {.name = what.empty() ? "attention" : "attention " + what,
          .size = fmt::format("{}×{}×{}, {} keys", num_heads, num_queries, head_dim, num_keys),
          .num_rows = num_queries,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            AttentionInputs inputs;
            inputs.q = in.activations({num_heads, rows, head_dim}, 1);
            inputs.k = in.activations({num_heads, num_keys, head_dim}, kNoRows);
            inputs.v = in.activations({num_heads, num_keys, head_dim}, kNoRows);
            inputs.scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
            AttentionOutputs outputs;
            outputs.out = in.output({rows, num_heads * head_dim});
            if (has_lse) outputs.lse = in.output(DType::kF32, {num_heads, rows}, 1);
            return
                [=](Backend& backend) { backend.run(ops::Attention{.in = inputs, .to = outputs}); };
          }};
}

// Keys and values are columns of one matrix; queries are a separate tensor.
OpCase attention_in_place_case(const DitConfig& dit, std::int64_t num_tokens) {
  return {.name = "attention in place",
          .size = fmt::format("{}×{}×{}", dit.num_heads, num_tokens, dit.head_dim()),
          .num_rows = num_tokens,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const std::int64_t head_dim = dit.head_dim();
            const std::int64_t width = dit.num_heads * head_dim;
            const TensorView qkv = in.activations({num_tokens, 3 * width}, kNoRows);
            AttentionInputs inputs;
            inputs.q = in.activations({dit.num_heads, rows, head_dim}, 1);
            inputs.k = HeadsView(qkv, dit.num_heads, head_dim, width);
            inputs.v = HeadsView(qkv, dit.num_heads, head_dim, 2 * width);
            inputs.scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
            const TensorView out = in.output({rows, width});
            return
                [=](Backend& backend) { backend.run(ops::Attention{.in = inputs, .to = {out}}); };
          }};
}

std::vector<OpCase> attentions(const DitConfig& dit, const Tokens& tokens) {
  const auto joint = [&](const std::string& what, std::int64_t num_tokens, bool has_lse) {
    return attention_case(what, dit.num_heads, num_tokens, num_tokens, dit.head_dim(), has_lse);
  };
  const std::int64_t pooler_tokens = tokens.text + 1;
  return {joint("with lse", tokens.all(), true),
          joint("", tokens.all(), false),
          joint("of a third", tokens.all() / 3, false),
          joint("of a tenth", tokens.all() / 10, false),
          attention_in_place_case(dit, tokens.all()),
          attention_case("of the pooler", dit.pooler_heads, 1, pooler_tokens,
                         dit.text_width / dit.pooler_heads, false)};
}

// out [rows, width] from x [rows, width] and vectors.
OpCase norm_modulate_case(std::int64_t num_tokens, std::int64_t width) {
  return {.name = "norm_modulate",
          .size = fmt::format("{}×{}", num_tokens, width),
          .num_rows = num_tokens,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const TensorView x = in.activations({rows, width});
            const TensorView scale = in.activations({width}, kNoRows, {0.0F, 0.5F});
            const TensorView out = in.output({rows, width});
            return [=](Backend& backend) {
              backend.run(ops::NormModulate{.x = x, .scale = scale, .eps = 1e-6F, .out = out});
            };
          }};
}

OpCase layer_norm_modulate_case(std::int64_t num_tokens, std::int64_t width) {
  return {.name = "layer_norm_modulate",
          .size = fmt::format("{}×{}", num_tokens, width),
          .num_rows = num_tokens,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const TensorView x = in.activations({rows, width}, 0, {0.5F, 1.0F});
            const TensorView shift = in.activations({width}, kNoRows, {0.0F, 0.5F});
            const TensorView scale = in.activations({width}, kNoRows, {0.0F, 0.5F});
            const TensorView out = in.output({rows, width});
            return [=](Backend& backend) {
              backend.run(ops::LayerNormModulate{
                  .x = x, .shift = shift, .scale = scale, .eps = 1e-6F, .out = out});
            };
          }};
}

OpCase gated_residual_case(std::int64_t num_tokens, std::int64_t width) {
  return {.name = "gated_residual",
          .size = fmt::format("{}×{}", num_tokens, width),
          .num_rows = num_tokens,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const TensorView r = in.activations({rows, width});
            const TensorView gate = in.activations({width}, kNoRows);
            const TensorView x = in.activations({rows, width});
            in.add_output(x, 0);
            return [=](Backend& backend) {
              backend.run(ops::GatedResidual{.r = r, .gate = gate, .x = x});
            };
          }};
}

// Uses all optional inputs and outputs.
OpCase fused_residual_case(std::int64_t num_tokens, std::int64_t width) {
  return {.name = "gated_residual with norm",
          .size = fmt::format("{}×{}", num_tokens, width),
          .num_rows = num_tokens,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const TensorView r = in.activations({rows, width});
            const TensorView gate = in.activations({width}, kNoRows);
            const TensorView bias = in.vector(width, {0.0F, 0.02F});
            const TensorView next_scale = in.activations({width}, kNoRows, {0.0F, 0.5F});
            const TensorView next_out = in.output({rows, width});
            const TensorView x = in.activations({rows, width});
            in.add_output(x, 0);
            return [=](Backend& backend) {
              backend.run(ops::GatedResidual{.r = r,
                                             .bias = bias,
                                             .gate = gate,
                                             .x = x,
                                             .next_scale = next_scale,
                                             .next_out = next_out});
            };
          }};
}

// Queries, keys and values, and the norm weights and angles of the first two.
struct Heads {
  QkNorm params;
  TensorView q, k, v;
};

Heads make_heads(Inputs& in, const DitConfig& dit, std::int64_t num_tokens) {
  const std::int64_t head_dim = dit.head_dim();
  const Shape table{num_tokens, dit.num_heads, head_dim / 2};
  const Shape heads{dit.num_heads, num_tokens, head_dim};
  return {.params = {.q_weight = in.vector(head_dim),
                     .k_weight = in.vector(head_dim),
                     .cos = in.f32(table),
                     .sin = in.f32(table)},
          .q = in.output(heads, 1),
          .k = in.output(heads, 1),
          .v = in.output(heads, 1)};
}

OpCase qk_norm_rope_case(const DitConfig& dit, std::int64_t num_tokens) {
  const std::int64_t heads = dit.num_heads;
  const std::int64_t head_dim = dit.head_dim();
  return {.name = "qk_norm_rope",
          .size = fmt::format("{}×3×{}×{}", num_tokens, heads, head_dim),
          .num_rows = num_tokens,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const TensorView qkv = in.activations({rows, 3 * heads * head_dim});
            const Heads to = make_heads(in, dit, rows);
            return [=](Backend& backend) {
              backend.run(ops::QkNormRope{
                  .qkv = qkv, .norm = to.params, .offset = 0, .q = to.q, .k = to.k, .v = to.v});
            };
          }};
}

OpCase qkv_linear_case(const DitConfig& dit, std::int64_t num_tokens, bool is_quantised) {
  const std::int64_t heads = dit.num_heads;
  const std::int64_t head_dim = dit.head_dim();
  return {.name = is_quantised ? "qkv_linear I8" : "qkv_linear",
          .size = fmt::format("{}×{}→3×{}×{}", num_tokens, dit.hidden_size_x, heads, head_dim),
          .num_rows = num_tokens,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const std::int64_t k = dit.hidden_size_x;
            const Shape shape{3 * heads * head_dim, k};
            MatrixView x = in.activations({rows, k});
            if (is_quantised) x = in.quantised(x.values());
            const MatrixView weight = is_quantised ? in.quantised(in.activations(shape, kNoRows))
                                                   : MatrixView(in.matrix(shape));
            const Heads to = make_heads(in, dit, rows);
            return [=, &scratch = in.scratch()](Backend& backend) {
              backend.run(ops::QkvLinear{.x = x,
                                         .weight = weight,
                                         .norm = to.params,
                                         .offset = 0,
                                         .scratch = scratch,
                                         .q = to.q,
                                         .k = to.k,
                                         .v = to.v});
            };
          }};
}

OpCase quantise_rows_case(std::int64_t num_tokens, std::int64_t width) {
  return {.name = "quantise_rows",
          .size = fmt::format("{}×{}", num_tokens, width),
          .num_rows = num_tokens,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const TensorView x = in.activations({rows, width});
            const MatrixView out = in.quantised(x);
            in.add_output(out.values(), 0);
            in.add_output(out.scales(), 0);
            return [=](Backend& backend) { backend.run(ops::QuantiseRows{.x = x, .out = out}); };
          }};
}

OpCase gated_activation_case(std::int64_t num_tokens, std::int64_t width) {
  return {
      .name = "gated_activation silu",
      .size = fmt::format("{}×2×{}", num_tokens, width),
      .num_rows = num_tokens,
      .num_verified = kVerifiedRows,
      .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
        const TensorView x = in.activations({rows, 2 * width});
        const TensorView out = in.output({rows, width});
        return [=](Backend& backend) {
          backend.run(ops::GatedActivation{.x = x, .activation = Activation::kSilu, .out = out});
        };
      }};
}

// Rows of these two are latent frames.
OpCase patchify_case(const DitConfig& dit, const Latents& latents) {
  const int patch = static_cast<int>(dit.patch_size);
  return {.name = "patchify",
          .size = fmt::format("{}×{}×{}×{}", latents.channels, latents.num_frames, latents.height,
                              latents.width),
          .num_rows = latents.num_frames,
          .num_verified = 2,
          .make = [=](Inputs& in, std::int64_t frames) -> OpTask {
            const TensorView z =
                in.f32({latents.channels, frames, latents.height, latents.width}, 1);
            const TensorView out =
                in.output({frames * (latents.height / patch) * (latents.width / patch),
                           latents.channels * patch * patch});
            return [=](Backend& backend) {
              backend.run(ops::Patchify{.latents = z, .patch_size = patch, .tokens = out});
            };
          }};
}

OpCase unpatchify_case(const DitConfig& dit, const Latents& latents) {
  const int patch = static_cast<int>(dit.patch_size);
  return {.name = "unpatchify",
          .size = fmt::format("{}×{}×{}×{}", latents.channels, latents.num_frames, latents.height,
                              latents.width),
          .num_rows = latents.num_frames,
          .num_verified = 2,
          .make = [=](Inputs& in, std::int64_t frames) -> OpTask {
            const TensorView x =
                in.activations({frames * (latents.height / patch) * (latents.width / patch),
                                latents.channels * patch * patch});
            const TensorView z = in.output(
                DType::kF32, {latents.channels, frames, latents.height, latents.width}, 1);
            return [=](Backend& backend) {
              backend.run(ops::Unpatchify{.tokens = x, .patch_size = patch, .latents = z});
            };
          }};
}

OpCase guided_euler_case(const Latents& latents) {
  const std::int64_t num_values =
      latents.channels * latents.num_frames * latents.height * latents.width;
  return {.name = "guided_euler",
          .size = fmt::format("{}", num_values),
          .num_rows = num_values,
          .num_verified = 1000,
          .make = [](Inputs& in, std::int64_t rows) -> OpTask {
            const TensorView cond = in.f32({rows});
            const TensorView null = in.f32({rows});
            const TensorView z = in.f32({rows});
            in.add_output(z, 0);
            return [=](Backend& backend) {
              backend.run(ops::GuidedEuler{
                  .v_cond = cond, .v_null = null, .cfg = 6.0F, .dsigma = 0.01F, .z = z});
            };
          }};
}

}  // namespace

std::vector<OpCase> list_dit_cases(const Sizes& sizes) {
  const DitConfig& dit = sizes.config.dit;
  const Tokens tokens = count_tokens(sizes);
  std::vector<OpCase> cases = linears(dit, tokens);
  for (OpCase& attention : attentions(dit, tokens)) cases.push_back(std::move(attention));
  cases.push_back(norm_modulate_case(tokens.visual, dit.hidden_size_x));
  cases.push_back(qk_norm_rope_case(dit, tokens.visual));
  cases.push_back(qkv_linear_case(dit, tokens.visual, /*is_quantised=*/false));
  cases.push_back(qkv_linear_case(dit, tokens.visual, /*is_quantised=*/true));
  cases.push_back(linear_i8_case("proj", tokens.visual, dit.hidden_size_x, dit.hidden_size_x));
  cases.push_back(linear_i8_case("mlp w2", tokens.visual, dit.mlp_hidden_x, dit.hidden_size_x));
  cases.push_back(quantise_rows_case(tokens.visual, dit.hidden_size_x));
  cases.push_back(quantise_rows_case(tokens.visual, dit.mlp_hidden_x));
  cases.push_back(gated_residual_case(tokens.visual, dit.hidden_size_x));
  cases.push_back(fused_residual_case(tokens.visual, dit.hidden_size_x));
  cases.push_back(gated_activation_case(tokens.visual, dit.mlp_hidden_x));
  cases.push_back(gated_linear_case("silu", tokens.visual, dit.hidden_size_x, dit.mlp_hidden_x,
                                    Activation::kSilu));
  cases.push_back(gated_linear_case("silu", tokens.visual, dit.hidden_size_x, dit.mlp_hidden_x,
                                    Activation::kSilu, /*is_quantised=*/true));
  cases.push_back(layer_norm_modulate_case(tokens.visual, dit.hidden_size_x));
  cases.push_back(patchify_case(dit, tokens.latents));
  cases.push_back(unpatchify_case(dit, tokens.latents));
  cases.push_back(guided_euler_case(tokens.latents));
  return cases;
}

}  // namespace mochi::bench
