#include "vae/vae_encoder.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel_for.h"
#include "vae_golden.h"

namespace mochi {
namespace {

// Returns the golden's clip, [T, H, W, 3].
Tensor frames_of(const VaeGolden& golden) {
  const Shape shape = golden.shape("input.video");
  Tensor result(DType::kF32, {shape[1], shape[2], shape[3], shape[0]});
  const auto values = golden.values("input.video");
  const auto channels_last = transpose(values, 3, values.size() / 3);
  std::copy(channels_last.begin(), channels_last.end(), result.view().f32().begin());
  return result;
}

void expect_posterior(VaeBench& bench, const VaeGolden& golden, double max_mean_error,
                      double max_logvar_error) {
  const VaeGolden weights("vae/encoder_weights");
  const VaeEncoder encoder = bench.load_encoder(weights.config(), *weights.weights());
  const Shape latents = golden.shape("output.mean");
  const Tensor posterior(DType::kF32, {2 * latents[0], latents[1], latents[2], latents[3]},
                         bench.backend->allocator());
  encoder.encode_posterior(bench.ctx, to_device(*bench.backend, frames_of(golden)), posterior);
  const TensorView mean = posterior.view().rows(0, latents[0]);
  const TensorView logvar = posterior.view().rows(latents[0], 2 * latents[0]);
  const double mean_error =
      relative_error(to_host(*bench.backend, mean), golden.values("output.mean"));
  const double logvar_error =
      relative_error(to_host(*bench.backend, logvar), golden.values("output.logvar"));
  record_error("mean", mean_error);
  record_error("logvar", logvar_error);
  EXPECT_LE(mean_error, max_mean_error);
  EXPECT_LE(logvar_error, max_logvar_error);
}

class VaeEncoderGolden : public ::testing::TestWithParam<std::string> {
 protected:
  Tensor frames() const { return frames_of(golden_); }

  VaeGolden weights_{"vae/encoder_weights"};
  VaeGolden golden_{"vae/encoder_" + GetParam()};
};

TEST_P(VaeEncoderGolden, Fp32) {
  VaeBench bench;
  expect_posterior(bench, golden_, 1e-5, 1e-5);
}

TEST_P(VaeEncoderGolden, Bf16Weights) {
  VaeBench bench(DType::kBF16);
  expect_posterior(bench, golden_, 1.2 * golden_.bf16_error("mean"),
                   1.2 * golden_.bf16_error("logvar"));
}

class VaeEncoderOn : public OnDevice {};

TEST_P(VaeEncoderOn, MatchesTheGoldens) {
  for (const std::string name : {"frames1", "frames7", "frames13"}) {
    SCOPED_TRACE(name);
    VaeBench bench(dtype(), make());
    const VaeGolden golden("vae/encoder_" + name);
    if (dtype() == DType::kF32) {
      expect_posterior(bench, golden, 1e-5, 1e-5);
    } else {
      expect_posterior(bench, golden, golden.bf16_limit("mean"), golden.bf16_limit("logvar"));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Gpu, VaeEncoderOn, cuda_backends(), name_of_case);

TEST_P(VaeEncoderGolden, LatentsAreNormalisedMeans) {
  VaeBench bench;
  const VaeConfig config = weights_.config();
  const VaeEncoder encoder = bench.load_encoder(config, *weights_.weights());
  const Tensor latents(DType::kF32, golden_.shape("output.mean"));
  encoder.encode(bench.ctx, frames(), latents);
  std::vector<float> want = golden_.values("output.mean");
  const std::size_t channel_size = want.size() / config.latent_mean.size();
  for (std::size_t i = 0; i < want.size(); ++i) {
    const std::size_t c = i / channel_size;
    want[i] = static_cast<float>((want[i] - config.latent_mean[c]) / config.latent_std[c]);
  }
  EXPECT_LE(relative_error(latents.view().f32(), want), 1e-5);
}

TEST_P(VaeEncoderGolden, SameBitsForAnyNumberOfThreads) {
  VaeBench bench;
  const VaeEncoder encoder = bench.load_encoder(weights_.config(), *weights_.weights());
  std::vector<float> first;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    const Tensor latents(DType::kF32, golden_.shape("output.mean"));
    encoder.encode(bench.ctx, frames(), latents);
    const std::vector<float> result(latents.view().f32().begin(), latents.view().f32().end());
    if (first.empty()) first = result;
    EXPECT_TRUE(result == first);
  }
  set_num_threads(0);
}

INSTANTIATE_TEST_SUITE_P(Cases, VaeEncoderGolden,
                         ::testing::Values("frames1", "frames7", "frames13"));

TEST(VaeEncoder, RefusesOtherFrames) {
  VaeBench bench;
  const VaeGolden golden("vae/encoder_weights");
  const VaeEncoder encoder = bench.load_encoder(golden.config(), *golden.weights());
  EXPECT_EQ(encoder.latent_shape({13, 16, 24, 3}), (Shape{12, 3, 2, 3}));
  const std::vector<Shape> shapes{{12, 16, 24, 3}, {0, 16, 24, 3},  {13, 15, 24, 3},
                                  {13, 16, 20, 3}, {13, 16, 24, 4}, {13, 16}};
  for (const Shape& shape : shapes) {
    EXPECT_THROW(encoder.latent_shape(shape), Error) << shape.to_string();
  }
  const Tensor frames = random_tensor({1, 8, 8, 3}, 1);
  const Tensor latents(DType::kF32, {12, 2, 1, 1});
  EXPECT_THROW(encoder.encode(bench.ctx, frames, latents), Error);
  EXPECT_THROW(encoder.encode_posterior(bench.ctx, frames, latents), Error);
}

}  // namespace
}  // namespace mochi
