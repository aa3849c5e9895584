// The VAE's operations other than convolution compared with literal loops in double.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "vae_ops_fixture.h"

namespace mochi {
namespace {

// ---- group norm ----

std::vector<double> slow_group_norm(const TensorView& x, const ops::GroupNorm& params,
                                    bool has_silu, std::int64_t halo) {
  const std::int64_t width = x.dim(3) / params.num_groups;
  const auto count = static_cast<double>(x.dim(1) * x.dim(2) * width);
  const auto for_group = [&](std::int64_t t, std::int64_t group, auto fn) {
    for (std::int64_t h = 0; h < x.dim(1); ++h) {
      for (std::int64_t w = 0; w < x.dim(2); ++w) {
        for (std::int64_t c = group * width; c < (group + 1) * width; ++c) fn(at(x, t, h, w, c));
      }
    }
  };
  std::vector<double> result;
  for (std::int64_t t = 0; t < x.dim(0); ++t) {
    std::vector<double> means, variances;
    for (std::int64_t group = 0; group < params.num_groups; ++group) {
      double mean = 0.0;
      for_group(t, group, [&](double value) { mean += value / count; });
      double variance = 0.0;
      for_group(t, group,
                [&](double value) { variance += (value - mean) * (value - mean) / count; });
      means.push_back(mean);
      variances.push_back(variance);
    }
    for (std::int64_t h = -halo; h < x.dim(1) + halo; ++h) {
      for (std::int64_t w = -halo; w < x.dim(2) + halo; ++w) {
        for (std::int64_t c = 0; c < x.dim(3); ++c) {
          const double value = at(x, t, std::clamp<std::int64_t>(h, 0, x.dim(1) - 1),
                                  std::clamp<std::int64_t>(w, 0, x.dim(2) - 1), c);
          const double y = (value - means[c / width]) /
                               std::sqrt(variances[c / width] + params.eps) *
                               params.weight.f32()[c] +
                           params.bias.f32()[c];
          result.push_back(has_silu ? y / (1.0 + std::exp(-y)) : y);
        }
      }
    }
  }
  return result;
}

struct NormCase {
  Shape x;
  int num_groups;
  Activation activation;
  std::int64_t halo;
  float offset = 0.0F;
};

using VaeOpsGroupNorm = OverBackendsAnd<VaeOpsFixture, NormCase>;

TEST_P(VaeOpsGroupNorm, MatchesLoops) {
  const Tensor x = random_tensor(param().x, 11, param().offset);
  const Tensor weight = random_tensor({param().x[3]}, 12, 1.0F, 0.2F);
  const Tensor bias = random_tensor({param().x[3]}, 13);
  const Tensor out = poisoned({param().x[0], param().x[1] + 2 * param().halo,
                               param().x[2] + 2 * param().halo, param().x[3]});
  const ops::GroupNorm op{.x = x,
                          .weight = weight,
                          .bias = bias,
                          .num_groups = param().num_groups,
                          .activation = param().activation,
                          .out = out};
  EXPECT_TRUE(is_repeatable(out, [&] { backend_->run(op); }));
  const bool has_silu = param().activation == Activation::kSilu;
  const auto want = slow_group_norm(x, op, has_silu, param().halo);
  // y = x·scale + shift cancels an offset of 1000 standard deviations, which costs three digits.
  EXPECT_LE(relative_error(out.view().f32(), want), limit(param().offset > 0.0F ? 1e-4 : 1e-6));
}

INSTANTIATE_TEST_SUITE_P(
    On, VaeOpsGroupNorm,
    testing::Combine(all_backends(),
                     testing::Values(NormCase{{2, 5, 7, 12}, 4, Activation::kSilu, 1},
                                     NormCase{{3, 24, 40, 32}, 4, Activation::kSilu, 1},
                                     NormCase{{3, 6, 5, 96}, 32, Activation::kSilu, 0},
                                     NormCase{{1, 1, 1, 8}, 1, Activation::kNone, 1},
                                     NormCase{{2, 33, 65, 16}, 16, Activation::kNone, 0},
                                     NormCase{{1, 30, 50, 16}, 4, Activation::kNone, 0, 1000.0F})),
    name_of_combined<NormCase>);

INSTANTIATE_TEST_SUITE_P(On, VaeOps, all_backends(), name_of_case);

// ---- other operations ----

TEST_P(VaeOps, LatentsChangeLayoutAndBack) {
  const Tensor latents = random_tensor({5, 2, 3, 4}, 21);
  const Tensor scale = random_tensor({5}, 22);
  const Tensor shift = random_tensor({5}, 23);
  const Tensor x = poisoned({2, 3, 4, 5});
  EXPECT_TRUE(is_repeatable(x, [&] {
    backend_->run(
        ops::LatentsToChannelsLast{.latents = latents, .scale = scale, .shift = shift, .out = x});
  }));
  std::vector<double> want(120);
  for (std::size_t c = 0; c < 5; ++c) {
    for (std::size_t i = 0; i < 24; ++i) {
      const double z = latents.view().f32()[c * 24 + i];
      want[i * 5 + c] = z * scale.view().f32()[c] + shift.view().f32()[c];
    }
  }
  EXPECT_LE(relative_error(x.view().f32(), want), limit(1e-7));
  const Tensor inverse_scale = poisoned({5});
  for (int c = 0; c < 5; ++c) inverse_scale.view().f32()[c] = 1.0F / scale.view().f32()[c];
  const Tensor back = poisoned({5, 2, 3, 4});
  backend_->run(
      ops::ChannelsLastToLatents{.x = x, .scale = inverse_scale, .shift = shift, .latents = back});
  // Small scales magnify the rounding of x.
  EXPECT_LE(relative_error(back.view().f32(), latents.view().f32()), limit(1e-6, 5.0));
}

TEST_P(VaeOps, ChannelsLastToLatentsTakesTheFirstChannels) {
  const Tensor x = random_tensor({2, 1, 3, 6}, 24);
  const Tensor scale = random_tensor({4}, 25);
  const Tensor shift = random_tensor({4}, 26);
  const Tensor out = poisoned({4, 2, 1, 3});
  backend_->run(ops::ChannelsLastToLatents{.x = x, .scale = scale, .shift = shift, .latents = out});
  std::vector<double> want;
  for (std::size_t c = 0; c < 4; ++c) {
    for (std::size_t i = 0; i < 6; ++i) {
      const double centred = double{x.view().f32()[i * 6 + c]} - shift.view().f32()[c];
      want.push_back(centred * scale.view().f32()[c]);
    }
  }
  EXPECT_LE(relative_error(out.view().f32(), want), 1e-7);  // always F32
}

TEST_P(VaeOps, DepthToSpaceTimePutsFeaturesInPlace) {
  constexpr int kTemporal = 3;
  constexpr int kSpatial = 2;
  const Tensor x = random_tensor({2, 3, 4, 5 * kTemporal * kSpatial * kSpatial}, 31);
  for (const int dropped : {0, 2}) {
    const Tensor out = poisoned({2 * kTemporal - dropped, 3 * kSpatial, 4 * kSpatial, 5});
    EXPECT_TRUE(is_repeatable(out, [&] {
      backend_->run(ops::DepthToSpaceTime{.x = x,
                                          .temporal = kTemporal,
                                          .spatial = kSpatial,
                                          .num_dropped_frames = dropped,
                                          .out = out});
    }));
    for (std::int64_t t = dropped; t < 2 * kTemporal; ++t) {
      for (std::int64_t h = 0; h < 3 * kSpatial; ++h) {
        for (std::int64_t w = 0; w < 4 * kSpatial; ++w) {
          for (std::int64_t c = 0; c < 5; ++c) {
            const std::int64_t feature =
                ((c * kTemporal + t % kTemporal) * kSpatial + h % kSpatial) * kSpatial +
                w % kSpatial;
            ASSERT_EQ(at(out, t - dropped, h, w, c),
                      at(x, t / kTemporal, h / kSpatial, w / kSpatial, feature));
          }
        }
      }
    }
  }
}

TEST_P(VaeOps, FourierFeaturesKeepTheirOrder) {
  const Tensor x = random_tensor({2, 3, 2, 3}, 41, 0.0F, 0.3F);
  const std::vector<int> frequencies{0, 2};
  const Tensor out = poisoned({2, 3, 2, 15});
  backend_->run(ops::FourierFeatures{.x = x, .frequencies = frequencies, .out = out});
  for (std::int64_t pixel = 0; pixel < 12; ++pixel) {
    const auto features = out.view().f32().subspan(static_cast<std::size_t>(pixel * 15), 15);
    for (std::size_t c = 0; c < 3; ++c) {
      const double value = x.view().f32()[pixel * 3 + c];
      EXPECT_EQ(features[c], static_cast<float>(value));
      for (std::size_t f = 0; f < 2; ++f) {
        const double angle = 2.0 * M_PI * std::exp2(frequencies[f]) * value;
        EXPECT_NEAR(features[3 + c * 2 + f], std::sin(angle), limit(2e-6));
        EXPECT_NEAR(features[9 + c * 2 + f], std::cos(angle), limit(2e-6));
      }
    }
  }
}

// Computes one query of one head at one pixel.
std::vector<double> slow_attend(const TensorView& qkv, std::int64_t t, std::int64_t h,
                                std::int64_t w, std::int64_t head, std::int64_t head_dim) {
  const std::int64_t channels = qkv.dim(3) / 3;
  const auto vector = [&](std::int64_t frame, std::int64_t part, bool is_unit) {
    std::vector<double> values;
    double square = 0.0;
    for (std::int64_t d = 0; d < head_dim; ++d) {
      values.push_back(at(qkv, frame, h, w, part * channels + head * head_dim + d));
      square += values.back() * values.back();
    }
    for (double& value : values) value /= is_unit ? std::sqrt(square) : 1.0;
    return values;
  };
  std::vector<double> result(static_cast<std::size_t>(head_dim), 0.0);
  double total = 0.0;
  for (std::int64_t s = 0; s <= t; ++s) {
    const auto q = vector(t, 0, true);
    const auto k = vector(s, 1, true);
    const auto v = vector(s, 2, false);
    double logit = 0.0;
    for (std::size_t d = 0; d < q.size(); ++d) logit += q[d] * k[d];
    const double weight = std::exp(logit / std::sqrt(static_cast<double>(head_dim)));
    total += weight;
    for (std::size_t d = 0; d < q.size(); ++d) result[d] += weight * v[d];
  }
  for (double& value : result) value /= total;
  return result;
}

TEST_P(VaeOps, TemporalAttentionIsCausalPerPixel) {
  for (const int num_frames : {1, 2, 7, 19}) {
    for (const int head_dim : {4, 12}) {
      const Tensor qkv = random_tensor({num_frames, 2, 3, 3 * 24}, 51);
      const Tensor out = poisoned({num_frames, 2, 3, 24});
      EXPECT_TRUE(is_repeatable(out, [&] {
        backend_->run(ops::TemporalAttention{.qkv = qkv, .head_dim = head_dim, .out = out});
      }));
      std::vector<double> want;
      for (std::int64_t t = 0; t < num_frames; ++t) {
        for (std::int64_t pixel = 0; pixel < 6; ++pixel) {
          for (std::int64_t head = 0; head < 24 / head_dim; ++head) {
            const auto part = slow_attend(qkv, t, pixel / 3, pixel % 3, head, head_dim);
            want.insert(want.end(), part.begin(), part.end());
          }
        }
      }
      EXPECT_LE(relative_error(out.view().f32(), want), limit(1e-6));
    }
  }
}

TEST_P(VaeOps, BytesAreRoundedAndClamped) {
  const Tensor x = poisoned({1, 1, 3, 3});
  // All values are exact in BF16; the two odd ones are bytes 0.498 and 253.506.
  const std::vector<float> values{-1.0F,           1.0F,           0.0F, -1.5F,    7.0F,
                                  -1.0F + 0x1p-8F, 1.0F - 0x3p-8F, NAN,  -INFINITY};
  std::copy(values.begin(), values.end(), x.view().f32().begin());
  std::vector<std::uint8_t> bytes(9);
  backend_->run(ops::ToRgb8{.x = x, .out = TensorView(bytes.data(), DType::kU8, x.view().shape())});
  EXPECT_EQ(bytes, (std::vector<std::uint8_t>{0, 255, 128, 0, 255, 0, 254, 0, 0}));
}

}  // namespace
}  // namespace mochi
