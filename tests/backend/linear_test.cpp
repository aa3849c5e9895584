// Matmuls, activations and both fused, compared with slow, literal loops in double.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "backend/ops_fixture.h"

namespace mochi {
namespace {

using LinearOps = OverBackends<OpsFixture>;
INSTANTIATE_TEST_SUITE_P(On, LinearOps, all_backends(), name_of_case);

double activate(double x, Activation activation) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kSilu:
      return x / (1.0 + std::exp(-x));
    case Activation::kGeluTanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
  }
  return 0.0;
}

constexpr Activation kActivations[] = {Activation::kNone, Activation::kSilu, Activation::kGeluTanh};

// Share of BF16's floor. A result that is rounded before and after its bias has 0.8.
constexpr double kOneRounding = 0.7;

// Covers one row, odd sizes, whole tiles, several tiles, and more sums than are stored at a time.
struct LinearCase {
  std::int64_t rows, k, n;
};
using LinearOp = OverBackendsAnd<OpsFixture, LinearCase>;

// Returns x · weightᵀ.
std::vector<double> matmul(const Tensor& x, const Tensor& weight) {
  const std::int64_t k = x.view().dim(1);
  std::vector<double> result;
  const float* x_row = x.view().f32().data();
  for (std::int64_t row = 0; row < x.view().dim(0); ++row, x_row += k) {
    const float* weight_row = weight.view().f32().data();
    for (std::int64_t j = 0; j < weight.view().dim(0); ++j, weight_row += k) {
      result.push_back(std::inner_product(x_row, x_row + k, weight_row, 0.0));
    }
  }
  return result;
}

TEST_P(LinearOp, MatchesLoops) {
  const auto [rows, k, n] = param();
  const Tensor x = random({rows, k});
  const Tensor weight = random({n, k});
  const Tensor bias = random({n});
  const std::vector<double> product = matmul(x, weight);
  for (const Activation activation : kActivations) {
    for (const bool has_bias : {false, true}) {
      const Tensor out = poisoned({rows, n});
      backend_->run(ops::Linear{.x = x,
                                .weight = weight,
                                .bias = has_bias ? bias.view() : TensorView(),
                                .out = out,
                                .activation = activation});
      std::vector<double> want = product;
      const float* terms = bias.view().f32().data();
      for (std::size_t i = 0; i < want.size(); ++i) {
        const double term = has_bias ? terms[i % static_cast<std::size_t>(n)] : 0.0;
        want[i] = activate(want[i] + term, activation);
      }
      expect_near(out, want, 1e-6, kOneRounding);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    On, LinearOp,
    testing::Combine(all_backends(),
                     testing::Values(LinearCase{19, 33, 21}, LinearCase{1, 256, 72},
                                     LinearCase{130, 64, 200}, LinearCase{257, 128, 264},
                                     LinearCase{2100, 8, 4096})),
    name_of_combined<LinearCase>);

TEST_P(LinearOps, LinearAccumulates) {
  const Tensor x = random({5, 8});
  const Tensor weight = random({4, 8});
  const Tensor once = poisoned({5, 4});
  const Tensor twice = poisoned({5, 4});
  backend_->run(ops::Linear{.x = x, .weight = weight, .out = once});
  backend_->run(ops::Copy{.source = once, .target = twice});
  backend_->run(ops::Linear{.x = x, .weight = weight, .out = twice, .accumulate = true});
  std::vector<double> want;
  for (const float value : once.view().f32()) want.push_back(2.0 * value);
  expect_near(twice, want, 1e-6);
}

TEST_P(LinearOps, GatedActivation) {
  for (const Activation activation : kActivations) {
    const Tensor x = random({5, 2 * 37});
    const Tensor out = poisoned({5, 37});
    backend_->run(ops::GatedActivation{.x = x, .activation = activation, .out = out});
    std::vector<double> want;
    for (int row = 0; row < 5; ++row) {
      for (int i = 0; i < 37; ++i) {
        const float* in = x.view().f32().data() + row * 74;
        want.push_back(activate(in[i], activation) * in[37 + i]);
      }
    }
    expect_near(out, want, 1e-6);
  }
}

// Covers whole and partial tiles of Hopper's kernel, and sizes that it does not support.
using GatedLinearOp = OverBackendsAnd<OpsFixture, LinearCase>;

TEST_P(GatedLinearOp, MatchesLoops) {
  const auto [rows, k, features] = param();
  const Tensor x = random({rows, k});
  const Tensor weight = random({2 * features, k});
  const std::vector<double> product = matmul(x, weight);
  for (const Activation activation : kActivations) {
    const Tensor out = poisoned({rows, features});
    Arena scratch;
    backend_->run(ops::GatedLinear{
        .x = x, .weight = weight, .activation = activation, .scratch = scratch, .out = out});
    std::vector<double> want;
    for (std::int64_t row = 0; row < rows; ++row) {
      const double* sums = product.data() + row * 2 * features;
      for (std::int64_t i = 0; i < features; ++i) {
        want.push_back(activate(sums[i], activation) * sums[features + i]);
      }
    }
    // If matmul results are rounded first, three roundings add up.
    expect_near(out, want, 1e-6, 2.0);
  }
}

INSTANTIATE_TEST_SUITE_P(On, GatedLinearOp,
                         testing::Combine(all_backends(), testing::Values(LinearCase{5, 64, 128},
                                                                          LinearCase{130, 72, 256},
                                                                          LinearCase{600, 520, 384},
                                                                          LinearCase{7, 36, 128},
                                                                          LinearCase{9, 64, 100})),
                         name_of_combined<LinearCase>);

}  // namespace
}  // namespace mochi
