// Products in 8 bits, and the operations that quantise rows for them, compared with literal loops
// and with the operations that they are made of.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "backend/ops_fixture.h"
#include "base/error.h"
#include "tensor/float_arrays.h"

namespace mochi {
namespace {

// A quantised matrix that owns its memory.
struct Quantised {
  Quantised(DType type, const Shape& shape)
      : values(type, shape), scales(DType::kF32, {shape[0]}), view(values, scales.view()) {
    std::ranges::fill(scales.view().f32(), std::nanf(""));
  }

  std::vector<float> codes() const {
    std::vector<float> codes(static_cast<std::size_t>(values.view().num_elements()));
    convert_to_f32(values.view().dtype(), {values.view().bytes(), values.view().size_bytes()},
                   codes);
    return codes;
  }

  Tensor values, scales;
  MatrixView view;
};

class QuantisedFixture : public OpsFixture {
 protected:
  // GPUs have no products of F8_E4M3.
  std::vector<DType> types() const {
    if (!is_cpu()) return {DType::kI8};
    return {DType::kI8, DType::kF8E4M3};
  }
  Quantised quantise(DType type, const Tensor& x) {
    Quantised rows(type, x.view().shape());
    backend_->run(ops::QuantiseRows{.x = x, .out = rows.view});
    return rows;
  }
  Quantised random_quantised(DType type, const Shape& shape) {
    return quantise(type, random(shape));
  }

  static void expect_same(const Quantised& got, const Quantised& want) {
    EXPECT_EQ(got.codes(), want.codes());
    EXPECT_EQ(floats(got.scales), floats(want.scales));
  }
  static std::vector<float> floats(const Tensor& tensor) {
    const std::span<const float> values = tensor.view().f32();
    return {values.begin(), values.end()};
  }

  template <class Op>
  std::string message(const Op& op) {
    try {
      backend_->run(op);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }
};

using QuantisedOps = OverBackends<QuantisedFixture>;
INSTANTIATE_TEST_SUITE_P(On, QuantisedOps, all_backends(), name_of_case);
using QuantisedContracts = OnCpu<QuantisedFixture>;

TEST_P(QuantisedOps, LargestValueOfARowBecomesTheLargestCode) {
  const Tensor x = random({37, 96});
  for (const DType type : types()) {
    const float largest_code = type == DType::kI8 ? 127.0F : 448.0F;
    const Quantised rows = quantise(type, x);
    const std::vector<float> codes = rows.codes();
    for (std::size_t row = 0; row < 37; ++row) {
      float largest = 0;
      float found = 0;
      for (std::size_t i = row * 96; i < (row + 1) * 96; ++i) {
        largest = std::max(largest, std::abs(x.view().f32()[i]));
        found = std::max(found, std::abs(codes[i]));
        const float error = std::abs(codes[i] - x.view().f32()[i] / rows.scales.view().f32()[row]);
        // Half a step: of integers, or of 3 bits after the first.
        EXPECT_LE(error, type == DType::kI8 ? 0.5001F : std::max(std::abs(codes[i]), 0.1F) / 15.9F);
      }
      EXPECT_EQ(rows.scales.view().f32()[row], largest / largest_code);
      EXPECT_EQ(found, largest_code);
    }
  }
}

TEST_P(QuantisedOps, RowsWithoutALargestValue) {
  const Tensor x(DType::kF32, {5, 2});
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::ranges::copy(std::vector<float>{0, 0, 1e-41F, 0, std::nanf(""), 5, 1, -kInfinity, 3e38F, -1},
                    x.view().f32().begin());
  for (const DType type : types()) {
    const Quantised rows = quantise(type, x);
    const std::span<const float> scales = rows.scales.view().f32();
    EXPECT_EQ(scales[0], 1.0F);
    EXPECT_EQ(scales[1], 1.0F);
    EXPECT_TRUE(std::isnan(scales[2]));  // so that the result shows it
    EXPECT_TRUE(std::isnan(scales[3]));
    EXPECT_TRUE(std::isfinite(scales[4]));
    const std::vector<float> codes = rows.codes();
    EXPECT_EQ(std::vector<float>(codes.begin(), codes.begin() + 8), std::vector<float>(8, 0.0F));
  }
}

TEST_P(QuantisedOps, HalvesAreRoundedToEven) {
  const Tensor x(DType::kF32, {1, 6});
  std::ranges::copy(std::vector<float>{127, 0.5F, 1.5F, 2.5F, -0.5F, -1.5F},
                    x.view().f32().begin());
  EXPECT_EQ(quantise(DType::kI8, x).codes(), (std::vector<float>{127, 0, 2, 2, 0, -2}));
}

// Covers one row, odd sizes, the sizes of fused kernels, more than one tile of these, and the
// largest sums: rows of codes at their limits.
struct ProductCase {
  std::int64_t rows, k, n;
};
using QuantisedProduct = OverBackendsAnd<QuantisedFixture, ProductCase>;

TEST_P(QuantisedProduct, SumsIntegersExactly) {
  const auto [rows, k, n] = param();
  const auto ends_in_ones = [&](std::int64_t num_rows, float one) {
    Tensor values = random({num_rows, k});
    std::ranges::fill(values.view().rows(num_rows - 1, num_rows).f32(), one);
    return quantise(DType::kI8, values);
  };
  const Quantised x = ends_in_ones(rows, 1.0F);
  const Quantised weight = ends_in_ones(n, -1.0F);
  const Tensor out = poisoned({rows, n});
  backend_->run(ops::Linear{.x = x.view, .weight = weight.view, .out = out});
  const auto integers = [](const std::vector<float>& codes) {
    return std::vector<std::int32_t>(codes.begin(), codes.end());
  };
  const std::vector<std::int32_t> a = integers(x.codes());
  const std::vector<std::int32_t> b = integers(weight.codes());
  const Tensor want(DType::kF32, {rows, n});
  std::span<float> wanted = want.view().f32();
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t column = 0; column < n; ++column) {
      const std::int32_t sum = std::inner_product(a.begin() + row * k, a.begin() + (row + 1) * k,
                                                  b.begin() + column * k, 0);
      const float scale = x.scales.view().f32()[static_cast<std::size_t>(row)] *
                          weight.scales.view().f32()[static_cast<std::size_t>(column)];
      wanted.front() = static_cast<float>(sum) * scale;
      wanted = wanted.subspan(1);
    }
  }
  round(want);
  EXPECT_EQ(floats(out), floats(want));  // one rounding of exact sums: the same bits
}

INSTANTIATE_TEST_SUITE_P(
    On, QuantisedProduct,
    testing::Combine(all_backends(),
                     testing::Values(ProductCase{1, 1, 1}, ProductCase{3, 33, 5},
                                     ProductCase{9, 64, 192}, ProductCase{300, 257, 130},
                                     ProductCase{2, 8192, 16}, ProductCase{1, 3072, 128},
                                     ProductCase{257, 128, 256}, ProductCase{600, 1040, 384},
                                     ProductCase{130, 3072, 3072}, ProductCase{64, 16, 640})),
    name_of_combined<ProductCase>);

TEST_P(QuantisedOps, ProductsMatchThoseOfTheWidenedMatrices) {
  for (const DType type : types()) {
    const Quantised x = random_quantised(type, {70, 96});
    const Quantised weight = random_quantised(type, {48, 96});
    const auto widen = [](const Quantised& rows) {
      Tensor wide(DType::kF32, rows.values.view().shape());
      widen_rows(rows.view.type(), {rows.values.view().bytes(), rows.values.view().size_bytes()},
                 rows.scales.view().f32(), rows.view.dim(0), wide.view().f32());
      return wide;
    };
    const Tensor wide_x = widen(x);
    const Tensor wide_weight = widen(weight);
    const Tensor bias = random({48});
    for (const Activation activation :
         {Activation::kNone, Activation::kSilu, Activation::kGeluTanh}) {
      for (const bool has_bias : {false, true}) {
        const Tensor got = poisoned({70, 48});
        const Tensor want = poisoned({70, 48});
        ops::Linear op{.x = x.view, .weight = weight.view, .out = got, .activation = activation};
        if (has_bias) op.bias = bias;
        backend_->run(op);
        op.x = wide_x;
        op.weight = wide_weight;
        op.out = want;
        backend_->run(op);
        // In BF16 the widened operands are rounded too, which the quantised ones are not.
        EXPECT_LE(relative_error(got.view().f32(), want.view().f32()), 1.5 * limit(1e-6));
      }
    }
  }
}

// Quantised outputs equal what QuantiseRows makes of the dense ones.
TEST_P(QuantisedOps, OutputsAreQuantisedAsRowsAre) {
  Arena scratch;
  // A warp holds rows of 64, and a GPU takes other paths for the others.
  for (const std::int64_t width : {64, 37, 6400}) {
    const Tensor x = random({11, width});
    const Tensor scale = random({width});
    const Tensor bias = random_f32({width});
    const Tensor weight = random({96, width});
    for (const DType type : types()) {
      Tensor dense = poisoned({11, width});
      Quantised rows(type, {11, width});
      ops::NormModulate norm{.x = x, .scale = scale, .eps = 1e-6F, .out = dense};
      backend_->run(norm);
      norm.out = rows.view;
      backend_->run(norm);
      expect_same(rows, quantise(type, dense));

      for (const bool has_bias : {false, true}) {
        const Tensor r = random({11, width});
        const Tensor residual = random({11, width});
        const Tensor same_residual(DType::kF32, {11, width});
        std::ranges::copy(residual.view().f32(), same_residual.view().f32().begin());
        ops::GatedResidual add{
            .r = r, .gate = scale, .x = residual, .next_scale = scale, .next_out = dense};
        if (has_bias) add.bias = bias;
        backend_->run(add);
        add.x = same_residual;
        add.next_out = rows.view;
        backend_->run(add);
        expect_same(rows, quantise(type, dense));
        EXPECT_EQ(floats(same_residual), floats(residual));
      }

      dense = poisoned({11, 48});
      Quantised gated(type, {11, 48});
      ops::GatedLinear linear{.x = x,
                              .weight = weight,
                              .activation = Activation::kSilu,
                              .scratch = scratch,
                              .out = dense};
      backend_->run(linear);
      linear.out = gated.view;
      backend_->run(linear);
      expect_same(gated, quantise(type, dense));
    }
  }
}

// Sums are exact and rounded as often, so the bits are the same. Covers sizes with and without a
// fused kernel.
TEST_P(QuantisedOps, GatedLayersMatchTheirSteps) {
  Arena scratch;
  for (const DType type : types()) {
    for (const ProductCase& size : {ProductCase{9, 64, 96}, ProductCase{300, 192, 384}}) {
      const Quantised x = random_quantised(type, {size.rows, size.k});
      const Quantised weight = random_quantised(type, {2 * size.n, size.k});
      const Tensor product = poisoned({size.rows, 2 * size.n});
      const Tensor got = poisoned({size.rows, size.n});
      const Tensor want = poisoned({size.rows, size.n});
      backend_->run(ops::Linear{.x = x.view, .weight = weight.view, .out = product});
      backend_->run(ops::GatedLinear{.x = x.view,
                                     .weight = weight.view,
                                     .activation = Activation::kSilu,
                                     .scratch = scratch,
                                     .out = got});
      backend_->run(
          ops::GatedActivation{.x = product, .activation = Activation::kSilu, .out = want});
      EXPECT_EQ(floats(got), floats(want));
    }
  }
}

struct HeadsCase {
  std::int64_t tokens, k, heads, head_dim;
};

TEST_P(QuantisedOps, QkvLayersMatchTheirSteps) {
  Arena scratch;
  for (const DType type : types()) {
    for (const auto& [tokens, k, heads, head_dim] :
         {HeadsCase{9, 64, 2, 32}, HeadsCase{300, 192, 3, 128}}) {
      const Quantised x = random_quantised(type, {tokens, k});
      const Quantised weight = random_quantised(type, {3 * heads * head_dim, k});
      const Tensor product = poisoned({tokens, 3 * heads * head_dim});
      backend_->run(ops::Linear{.x = x.view, .weight = weight.view, .out = product});
      const Tensor q_weight = random_f32({head_dim});
      const Tensor k_weight = random_f32({head_dim});
      const Tensor cos = random_f32({tokens, heads, head_dim / 2});
      const Tensor sin = random_f32({tokens, heads, head_dim / 2});
      for (const QkNorm& norm :
           {QkNorm{q_weight, k_weight}, QkNorm{q_weight, k_weight, cos, sin}}) {
        const Shape shape{heads, tokens, head_dim};
        const Tensor got[] = {poisoned(shape), poisoned(shape), poisoned(shape)};
        const Tensor want[] = {poisoned(shape), poisoned(shape), poisoned(shape)};
        backend_->run(ops::QkvLinear{.x = x.view,
                                     .weight = weight.view,
                                     .norm = norm,
                                     .scratch = scratch,
                                     .q = got[0],
                                     .k = got[1],
                                     .v = got[2]});
        backend_->run(ops::QkNormRope{
            .qkv = product, .norm = norm, .q = want[0], .k = want[1], .v = want[2]});
        for (int i = 0; i < 3; ++i) EXPECT_EQ(floats(got[i]), floats(want[i]));
      }
    }
  }
}

TEST_F(QuantisedContracts, RefuseWhatDoesNotFit) {
  const Tensor dense = random({3, 8});
  const Quantised x = random_quantised(DType::kI8, {3, 8});
  const Quantised weight = random_quantised(DType::kI8, {5, 8});
  const Quantised other = random_quantised(DType::kF8E4M3, {5, 8});
  const Tensor out = poisoned({3, 5});
  EXPECT_EQ(message(ops::Linear{.x = dense, .weight = weight.view, .out = out}),
            "linear: x is F32, the weight I8");
  EXPECT_EQ(message(ops::Linear{.x = x.view, .weight = other.view, .out = out}),
            "linear: x is I8, the weight F8_E4M3");
  EXPECT_EQ(
      message(ops::Linear{.x = x.view, .weight = weight.view, .out = out, .accumulate = true}),
      "linear: results of 8-bit products are not accumulated");
  EXPECT_EQ(message(ops::Linear{
                .x = MatrixView(x.values, other.scales.view()), .weight = weight.view, .out = out}),
            "linear: scales of x is [5], wanted [3]");
  EXPECT_EQ(
      message(ops::Linear{.x = MatrixView(x.values.view()), .weight = weight.view, .out = out}),
      "linear: scales of x is missing");
  EXPECT_EQ(message(ops::QuantiseRows{.x = dense, .out = dense}),
            "quantise_rows: out has no scales");
  EXPECT_EQ(message(ops::Transpose{.x = weight.view, .out = poisoned({8, 5})}),
            "transpose: x is I8, wanted F32 or BF16");
}

}  // namespace
}  // namespace mochi
