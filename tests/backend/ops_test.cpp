// Operations of the transformer and the text encoder compared with slow, literal loops in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "backend/ops_fixture.h"
#include "base/error.h"
#include "base/parallel_for.h"
#include "base/temp_folder.h"

namespace mochi {
namespace {

using Ops = OverBackends<OpsFixture>;
INSTANTIATE_TEST_SUITE_P(On, Ops, all_backends(), name_of_case);
using OpsOnCpu = OnCpu<OpsFixture>;

struct AttentionCase {
  std::int64_t heads, queries, keys, head_dim;
  bool has_bias;
};

using AttentionOp = OverBackendsAnd<OpsFixture, AttentionCase>;

TEST_P(AttentionOp, MatchesDenseSoftmax) {
  const auto [heads, queries, keys, head_dim, has_bias] = param();
  AttentionInputs in;
  const Tensor q = random({heads, queries, head_dim});
  const Tensor k = random({heads, keys, head_dim});
  const Tensor v = random({heads, keys, head_dim});
  const Tensor bias = has_bias ? random({heads, queries, keys}) : Tensor();
  in = {q, k, v, bias, 0.7F};
  const Tensor out = poisoned({queries, heads * head_dim});
  backend_->run(ops::Attention{.in = in, .to = {out}});
  std::vector<double> want(static_cast<std::size_t>(queries * heads * head_dim));
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t i = 0; i < queries; ++i) {
      std::vector<double> weights;
      double sum = 0.0;
      for (std::int64_t j = 0; j < keys; ++j) {
        double logit = 0.0;
        for (std::int64_t d = 0; d < head_dim; ++d) {
          logit += static_cast<double>(q.view().f32()[(h * queries + i) * head_dim + d]) *
                   k.view().f32()[(h * keys + j) * head_dim + d];
        }
        logit *= 0.7;
        if (has_bias) logit += bias.view().f32()[(h * queries + i) * keys + j];
        weights.push_back(std::exp(logit));
        sum += weights.back();
      }
      for (std::int64_t d = 0; d < head_dim; ++d) {
        double value = 0.0;
        for (std::int64_t j = 0; j < keys; ++j) {
          value += weights[j] / sum * v.view().f32()[(h * keys + j) * head_dim + d];
        }
        want[(i * heads + h) * head_dim + d] = value;
      }
    }
  }
  expect_near(out, want, 2e-6);
}

INSTANTIATE_TEST_SUITE_P(On, AttentionOp,
                         testing::Combine(all_backends(),
                                          testing::Values(AttentionCase{1, 1, 1, 2, false},
                                                          AttentionCase{3, 130, 513, 16, false},
                                                          AttentionCase{2, 128, 256, 128, false},
                                                          AttentionCase{2, 300, 7, 24, true},
                                                          AttentionCase{1, 260, 390, 128, false},
                                                          AttentionCase{1, 1, 300, 64, false},
                                                          AttentionCase{4, 77, 77, 8, true})),
                         name_of_combined<AttentionCase>);

TEST_P(Ops, SoftmaxOfLargeLogitsStaysFinite) {
  const Tensor q = random({1, 40, 16});
  for (float& value : q.view().f32()) value *= 60.0F;
  round(q);
  const Tensor k = random({1, 600, 16});
  const Tensor v = random({1, 600, 16});
  const Tensor out = poisoned({40, 16});
  backend_->run(ops::Attention{.in = {q, k, v, {}, 1.0F}, .to = {out}});
  for (const float value : out.view().f32()) EXPECT_TRUE(std::isfinite(value));
}

TEST_F(OpsOnCpu, ResultsDoNotDependOnTheNumberOfThreads) {
  const Tensor x = random({1920, 256});
  const Tensor weight = random({768, 256});
  const Tensor q = random({2, 1930, 128});
  const Tensor k = random({2, 1930, 128});
  const Tensor v = random({2, 1930, 128});
  const auto multiply = [&](int threads, std::int64_t rows) {
    set_num_threads(threads);
    const Tensor product = poisoned({rows, 768});
    backend_->run(ops::Linear{.x = x.view().rows(0, rows), .weight = weight, .out = product});
    return std::vector<float>(product.view().f32().begin(), product.view().f32().end());
  };
  for (const std::int64_t rows : {1, 77, 1920}) {
    const std::vector<float> one = multiply(1, rows);
    EXPECT_EQ(one, multiply(2, rows)) << rows;
    EXPECT_EQ(one, multiply(3, rows)) << rows;
  }
  const auto attend = [&](int threads) {
    set_num_threads(threads);
    const Tensor attended = poisoned({1930, 256});
    backend_->run(ops::Attention{.in = {q, k, v, {}, 0.1F}, .to = {attended}});
    return std::vector<float>(attended.view().f32().begin(), attended.view().f32().end());
  };
  const std::vector<float> one = attend(1);
  EXPECT_EQ(one, attend(2));
  EXPECT_EQ(one, attend(3));
  set_num_threads(0);
}

TEST_P(Ops, Norms) {
  constexpr int kRows = 9;
  constexpr int kWidth = 50;
  constexpr float kEps = 1e-3F;
  const Tensor x = random({kRows, kWidth});
  const Tensor r = random({kRows, kWidth});
  const Tensor scale = random({kWidth});
  const Tensor shift = random({kWidth});
  const Tensor rms = poisoned({kRows, kWidth});
  const Tensor modulated = poisoned({kRows, kWidth});
  const Tensor layer = poisoned({kRows, kWidth});
  const Tensor residual = poisoned({kRows, kWidth});
  backend_->run(ops::RmsNorm{.x = x, .weight = scale, .eps = kEps, .out = rms});
  backend_->run(ops::NormModulate{.x = x, .scale = scale, .eps = kEps, .out = modulated});
  backend_->run(
      ops::LayerNormModulate{.x = x, .shift = shift, .scale = scale, .eps = kEps, .out = layer});
  backend_->run(ops::Copy{.source = x, .target = residual});
  backend_->run(ops::GatedResidual{.r = r, .gate = scale, .x = residual, .eps = kEps});
  std::vector<double> want_rms;
  std::vector<double> want_modulated;
  std::vector<double> want_layer;
  std::vector<double> want_residual;
  for (int row = 0; row < kRows; ++row) {
    const float* in = x.view().f32().data() + row * kWidth;
    const float* add = r.view().f32().data() + row * kWidth;
    double squares = 0.0;
    double r_squares = 0.0;
    double mean = 0.0;
    for (int i = 0; i < kWidth; ++i) {
      squares += static_cast<double>(in[i]) * in[i] / kWidth;
      r_squares += static_cast<double>(add[i]) * add[i] / kWidth;
      mean += static_cast<double>(in[i]) / kWidth;
    }
    const double variance = squares - mean * mean;
    for (int i = 0; i < kWidth; ++i) {
      const double s = scale.view().f32()[i];
      want_rms.push_back(in[i] / std::sqrt(squares + kEps) * s);
      want_modulated.push_back(in[i] / std::sqrt(squares + kEps) * (1.0 + s));
      want_layer.push_back((in[i] - mean) / std::sqrt(variance + kEps) * (1.0 + s) +
                           shift.view().f32()[i]);
      want_residual.push_back(in[i] + add[i] / std::sqrt(r_squares + kEps) * std::tanh(s));
    }
  }
  expect_near(rms, want_rms, 1e-6);
  expect_near(modulated, want_modulated, 1e-6);
  expect_near(layer, want_layer, 1e-6);
  expect_near(residual, want_residual, 1e-6);
}

TEST_P(Ops, SumsAndMeans) {
  const Tensor a = random({7, 60});
  const Tensor b = random({7, 60});
  const Tensor sum = poisoned({7, 60});
  const Tensor active = poisoned({7, 60});
  const Tensor mean = poisoned({1, 60});
  backend_->run(ops::Add{.a = a, .b = b, .out = sum});
  backend_->run(ops::Silu{.x = a, .out = active});
  backend_->run(ops::MeanRows{.x = a, .out = mean});
  std::vector<double> want_sum;
  std::vector<double> want_active;
  std::vector<double> want_mean(60);
  for (std::size_t i = 0; i < 420; ++i) {
    const double x = a.view().f32()[i];
    want_sum.push_back(x + b.view().f32()[i]);
    want_active.push_back(x / (1.0 + std::exp(-x)));
    want_mean[i % 60] += x / 7;
  }
  expect_near(sum, want_sum, 1e-6);
  expect_near(active, want_active, 1e-6);
  expect_near(mean, want_mean, 1e-6);
  backend_->run(ops::Add{.a = a, .b = b, .out = a});
  expect_near(a, want_sum, 1e-6);
  const Tensor nothing = poisoned({1, 60});
  backend_->run(ops::MeanRows{.x = a.view().rows(0, 0), .out = nothing});
  for (const float value : nothing.view().f32()) EXPECT_EQ(value, 0.0F);
}

TEST_P(Ops, ValuesSurviveTheWayToTheHostAndBack) {
  const Tensor x = random({3, 100});
  const Tensor host = poisoned({3, 100});
  DeviceRuntime& device = backend_->device();
  Transfer write_back = device.start_copy(x, host);
  backend_->run(ops::Await{.transfer = write_back});
  device.synchronize();
  const Tensor back = poisoned({3, 100});
  Transfer fetch = device.start_copy(host, back);
  for (int i = 0; i < 2; ++i) backend_->run(ops::Await{.transfer = fetch});  // may be repeated
  EXPECT_FALSE(fetch.is_pending());
  EXPECT_TRUE(std::ranges::equal(back.view().f32(), x.view().f32()));
  expect_contains(message_of<Error>([&] { device.start_copy(x.view().rows(0, 2), host); }),
                  "the source is F32 [2, 100], the target F32 [3, 100]");
}

TEST_P(Ops, EmbeddingTakesRows) {
  const Tensor table = random({11, 24});
  const std::vector<std::int32_t> ids{10, 0, 3, 3, 7};
  const Tensor out = poisoned({5, 24});
  backend_->run(ops::Embedding{.ids = ids, .table = table, .out = out});
  for (std::size_t i = 0; i < 5 * 24; ++i) {
    EXPECT_EQ(out.view().f32()[i],
              table.view().f32()[static_cast<std::size_t>(ids[i / 24]) * 24 + i % 24]);
  }
}

TEST_P(Ops, GatedResidualTakesABiasAndMakesTheNextNorm) {
  constexpr int kRows = 5;
  constexpr float kEps = 1e-3F;
  for (const int width : {50, 256, 3072, 4104}) {
    const Tensor r = random({kRows, width});
    const Tensor bias = random({width});
    const Tensor gate = random({width});
    const Tensor scale = random({width});
    const Tensor x = random({kRows, width});
    std::vector<double> want;
    std::vector<double> want_next;
    for (int row = 0; row < kRows; ++row) {
      const auto added = [&](int i) {
        return static_cast<double>(r.view().f32()[row * width + i]) + bias.view().f32()[i];
      };
      double squares = 0.0;
      for (int i = 0; i < width; ++i) squares += added(i) * added(i) / width;
      double next_squares = 0.0;
      for (int i = 0; i < width; ++i) {
        const double gated = std::tanh(static_cast<double>(gate.view().f32()[i]));
        want.push_back(x.view().f32()[row * width + i] +
                       added(i) / std::sqrt(squares + kEps) * gated);
        next_squares += want.back() * want.back() / width;
      }
      for (int i = 0; i < width; ++i) {
        want_next.push_back(want[static_cast<std::size_t>(row * width + i)] /
                            std::sqrt(next_squares + kEps) * (1.0 + scale.view().f32()[i]));
      }
    }
    const Tensor next = poisoned({kRows, width});
    backend_->run(ops::GatedResidual{.r = r,
                                     .bias = bias,
                                     .gate = gate,
                                     .x = x,
                                     .next_scale = scale,
                                     .next_out = next,
                                     .eps = kEps});
    expect_near(x, want, 1e-6);
    expect_near(next, want_next, 1e-6);
  }
}

TEST_P(Ops, PatchesComeBackInTheOtherOrder) {
  constexpr int kChannels = 3;
  const Tensor latents = random({kChannels, 2, 4, 6});
  const Tensor tokens = poisoned({2 * 2 * 3, kChannels * 4});
  backend_->run(ops::Patchify{.latents = latents, .patch_size = 2, .tokens = tokens});
  // Features (channel, row, column) become (row, column, channel), the order of the last layer.
  const Tensor turned = poisoned({2 * 2 * 3, kChannels * 4});
  for (int token = 0; token < 12; ++token) {
    for (int c = 0; c < kChannels; ++c) {
      for (int pixel = 0; pixel < 4; ++pixel) {
        turned.view().f32()[token * 12 + pixel * kChannels + c] =
            tokens.view().f32()[token * 12 + c * 4 + pixel];
      }
    }
  }
  const Tensor back = poisoned({kChannels, 2, 4, 6});
  backend_->run(ops::Unpatchify{.tokens = turned, .patch_size = 2, .latents = back});
  EXPECT_TRUE(std::ranges::equal(back.view().f32(), latents.view().f32()));
  // Token 4 is frame 0, patch row 1, patch column 1.
  EXPECT_EQ(tokens.view().f32()[4 * 12 + 4 + 1], latents.view().f32()[1 * 48 + 2 * 6 + 3]);
}

TEST_P(Ops, GuidedEuler) {
  const Tensor cond = random({1, 2, 3, 4});
  const Tensor null = random({1, 2, 3, 4});
  const Tensor z = random({1, 2, 3, 4});
  std::vector<double> want;
  for (int i = 0; i < 24; ++i) {
    const double guided =
        null.view().f32()[i] + 4.5 * (cond.view().f32()[i] - null.view().f32()[i]);
    want.push_back(z.view().f32()[i] + 0.125 * guided);
  }
  backend_->run(
      ops::GuidedEuler{.v_cond = cond, .v_null = null, .cfg = 4.5F, .dsigma = 0.125F, .z = z});
  EXPECT_LE(relative_error(z.view().f32(), want), 1e-6);  // always F32
}

TEST_P(Ops, WeightedSum) {
  const Tensor a = random({3, 5001});
  const Tensor b = random({3, 5001});
  const Tensor out(DType::kF32, a.view().shape());
  std::vector<double> want;
  for (std::size_t i = 0; i < a.view().f32().size(); ++i) {
    want.push_back(2.75 * a.view().f32()[i] - 1.75 * b.view().f32()[i]);
  }
  backend_->run(
      ops::WeightedSum{.a = a, .weight_a = 2.75F, .b = b, .weight_b = -1.75F, .out = out});
  EXPECT_LE(relative_error(out.view().f32(), want), 1e-6);  // always F32
}

TEST_P(Ops, DifferenceNormsAreThoseOfAllElements) {
  const Tensor a = random({3, 50'001});  // several blocks, and a part of one
  const Tensor b = random({3, 50'001});
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.view().f32().size(); ++i) {
    const double y = b.view().f32()[i];
    difference += (a.view().f32()[i] - y) * (a.view().f32()[i] - y);
    norm += y * y;
  }
  const Tensor out(DType::kF32, {2});
  Arena scratch(backend_->allocator());
  backend_->run(ops::DifferenceNorms{.a = a, .b = b, .scratch = scratch, .out = out});
  const float first = out.view().f32()[0];
  EXPECT_NEAR(first, std::sqrt(difference), 1e-5 * std::sqrt(difference));
  EXPECT_NEAR(out.view().f32()[1], std::sqrt(norm), 1e-5 * std::sqrt(norm));
  backend_->run(ops::DifferenceNorms{.a = a, .b = b, .scratch = scratch, .out = out});
  EXPECT_EQ(out.view().f32()[0], first);
}

TEST_P(Ops, ContractsNameTheOperationAndTheShapes) {
  const Tensor x = random({2, 3});
  const Tensor weight = random({4, 5});
  const Tensor out = random({2, 4});
  try {
    backend_->run(ops::Linear{.x = x, .weight = weight, .out = out});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "linear: weight is [4, 5], wanted [4, 3]");
  }
  EXPECT_THROW(backend_->run(ops::Attention{
                   .in = {random({1, 2, 4}), random({1, 0, 4}), random({1, 0, 4}), {}},
                   .to = {random({2, 4})}}),
               Error);
  EXPECT_THROW(
      backend_->run(ops::Embedding{
          .ids = std::vector<std::int32_t>{4}, .table = random({4, 2}), .out = random({1, 2})}),
      Error);
}

}  // namespace
}  // namespace mochi
