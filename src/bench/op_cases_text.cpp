// Operations of the text encoder, and of the transformer's text at the beginning of a generation.
#include <fmt/format.h>

#include "bench/op_cases.h"

namespace mochi::bench {
namespace {

OpCase embedding_case(const TextEncoderConfig& text, std::int64_t num_tokens) {
  return {.name = "embedding",
          .size = fmt::format("{} of {}×{}", num_tokens, text.vocab_size, text.hidden_size),
          .num_rows = num_tokens,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const TensorView table = in.matrix({text.vocab_size, text.hidden_size});
            const TensorView out = in.output({rows, text.hidden_size});
            // Counted from the last row, so that any number of last rows has equal values.
            std::vector<std::int32_t> ids;
            for (std::int64_t row = rows; row-- > 0;) {
              ids.push_back(static_cast<std::int32_t>(row * 7919 % text.vocab_size));
            }
            return [=](Backend& backend) {
              backend.run(ops::Embedding{.ids = ids, .table = table, .out = out});
            };
          }};
}

OpCase rms_norm_case(std::int64_t num_tokens, std::int64_t width) {
  return {.name = "rms_norm",
          .size = fmt::format("{}×{}", num_tokens, width),
          .num_rows = num_tokens,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const TensorView x = in.activations({rows, width});
            const TensorView weight = in.vector(width);
            const TensorView out = in.output({rows, width});
            return [=](Backend& backend) {
              backend.run(ops::RmsNorm{.x = x, .weight = weight, .eps = 1e-6F, .out = out});
            };
          }};
}

OpCase biased_attention_case(const TextEncoderConfig& text, std::int64_t num_tokens) {
  return {.name = "attention with bias",
          .size = fmt::format("{}×{}×{}", text.num_heads, num_tokens, text.head_dim),
          .num_rows = num_tokens,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const std::int64_t inner = text.num_heads * text.head_dim;
            const auto heads_of = [&](const TensorView& product) {
              return HeadsView(product, text.num_heads, text.head_dim);
            };
            AttentionInputs inputs;
            // As small as a trained encoder's, which has no scale on the logits.
            inputs.q = heads_of(in.activations({rows, inner}, 0, {0.0F, 0.125F}));
            inputs.k = heads_of(in.activations({num_tokens, inner}, kNoRows));
            inputs.v = heads_of(in.activations({num_tokens, inner}, kNoRows));
            inputs.bias = in.f32({text.num_heads, rows, num_tokens}, 1);
            const TensorView out = in.output({rows, inner});
            return
                [=](Backend& backend) { backend.run(ops::Attention{.in = inputs, .to = {out}}); };
          }};
}

OpCase gelu_case(std::int64_t num_tokens, std::int64_t width) {
  return {.name = "gated_activation gelu",
          .size = fmt::format("{}×2×{}", num_tokens, width),
          .num_rows = num_tokens,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const TensorView x = in.activations({rows, 2 * width});
            const TensorView out = in.output({rows, width});
            return [=](Backend& backend) {
              backend.run(
                  ops::GatedActivation{.x = x, .activation = Activation::kGeluTanh, .out = out});
            };
          }};
}

// The input is a column of vectors, so that the rows of the result are independent.
OpCase mean_rows_case(std::int64_t num_tokens, std::int64_t width) {
  return {.name = "mean_rows",
          .size = fmt::format("{}×{}", num_tokens, width),
          .num_rows = num_tokens,
          .num_verified = num_tokens,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const TensorView x = in.activations({rows, width}, 0, {1.0F, 1.0F});
            const TensorView out = in.output({1, width});
            return [=](Backend& backend) { backend.run(ops::MeanRows{.x = x, .out = out}); };
          }};
}

}  // namespace

std::vector<OpCase> list_text_cases(const Sizes& sizes) {
  const TextEncoderConfig& text = sizes.config.text_encoder;
  const std::int64_t n = sizes.num_encoder_tokens;
  const std::int64_t inner = text.num_heads * text.head_dim;
  const std::int64_t width = text.hidden_size;
  return {embedding_case(text, n),
          linear_case("T5 q, k, v", n, width, inner, false),
          linear_case("T5 o", n, inner, width, false, /*accumulates=*/true),
          linear_case("T5 wi", n, width, 2 * text.feed_forward_size, false),
          linear_case("T5 wo", n, text.feed_forward_size, width, false, /*accumulates=*/true),
          rms_norm_case(n, width),
          biased_attention_case(text, n),
          gelu_case(n, text.feed_forward_size),
          gated_linear_case("gelu", n, width, text.feed_forward_size, Activation::kGeluTanh),
          mean_rows_case(n, width)};
}

}  // namespace mochi::bench
