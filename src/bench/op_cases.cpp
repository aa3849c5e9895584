#include "bench/op_cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace mochi::bench {
namespace {

void append(std::vector<OpCase>& cases, std::vector<OpCase> more) {
  std::ranges::move(more, std::back_inserter(cases));
}

}  // namespace

OpCase linear_case(const std::string& what, std::int64_t num_rows, std::int64_t k, std::int64_t n,
                   bool has_bias, bool accumulates) {
  return {.name = "linear " + what,
          .size = fmt::format("{}×{}→{}", num_rows, k, n),
          .num_rows = num_rows,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const TensorView x = in.activations({rows, k});
            const TensorView weight = in.matrix({n, k});
            const TensorView bias = has_bias ? in.vector(n, {0.0F, 0.02F}) : TensorView();
            const TensorView out = accumulates ? in.activations({rows, n}) : in.output({rows, n});
            if (accumulates) in.add_output(out, 0);
            return [=](Backend& backend) {
              backend.run(ops::Linear{
                  .x = x, .weight = weight, .bias = bias, .out = out, .accumulate = accumulates});
            };
          }};
}

OpCase linear_i8_case(const std::string& what, std::int64_t num_rows, std::int64_t k,
                      std::int64_t n) {
  return {.name = "linear I8 " + what,
          .size = fmt::format("{}×{}→{}", num_rows, k, n),
          .num_rows = num_rows,
          .num_verified = kVerifiedRows,
          .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
            const MatrixView x = in.quantised(in.activations({rows, k}));
            const MatrixView weight = in.quantised(in.activations({n, k}, kNoRows));
            const TensorView out = in.output({rows, n});
            return [=](Backend& backend) {
              backend.run(ops::Linear{.x = x, .weight = weight, .out = out});
            };
          }};
}

OpCase gated_linear_case(const std::string& what, std::int64_t num_rows, std::int64_t k,
                         std::int64_t features, Activation activation, bool is_quantised) {
  return {
      .name = (is_quantised ? "gated_linear I8 " : "gated_linear ") + what,
      .size = fmt::format("{}×{}→2×{}", num_rows, k, features),
      .num_rows = num_rows,
      .num_verified = kVerifiedRows,
      .make = [=](Inputs& in, std::int64_t rows) -> OpTask {
        const Shape shape{2 * features, k};
        MatrixView x = in.activations({rows, k});
        if (is_quantised) x = in.quantised(x.values());
        const Normal values{0.0F, 1.0F / std::sqrt(static_cast<float>(k))};
        const MatrixView weight = is_quantised
                                      ? in.quantised(in.activations(shape, kNoRows, values))
                                      : MatrixView(in.matrix(shape));
        const TensorView out = in.output({rows, features});
        return [=, &scratch = in.scratch()](Backend& backend) {
          backend.run(ops::GatedLinear{
              .x = x, .weight = weight, .activation = activation, .scratch = scratch, .out = out});
        };
      }};
}

OpCase product_ceiling(const Sizes& sizes) {
  OpCase ceiling =
      linear_case("ceiling", sizes.product, sizes.product, sizes.product, /*has_bias=*/false);
  ceiling.name = "ceiling: product";
  return ceiling;
}

OpCase copy_ceiling(const Sizes& sizes) {
  return {.name = "ceiling: copy",
          .size = fmt::format("{}", sizes.copy_values),
          .num_rows = sizes.copy_values,
          .num_verified = 1000,
          .make = [](Inputs& in, std::int64_t rows) -> OpTask {
            const TensorView x = in.activations({rows});
            const TensorView out = in.output({rows});
            return [=](Backend& backend) { backend.run(ops::Copy{.source = x, .target = out}); };
          }};
}

std::vector<OpCase> list_op_cases(const Sizes& sizes) {
  std::vector<OpCase> cases = list_dit_cases(sizes);
  append(cases, list_text_cases(sizes));
  append(cases, list_decoder_cases(sizes));
  append(cases, list_encoder_cases(sizes));
  return cases;
}

}  // namespace mochi::bench
