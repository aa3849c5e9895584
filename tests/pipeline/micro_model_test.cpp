// The bundled model is complete, small and usable, and its VAE reproduces its input.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/noise.h"
#include "mochi/inspect.h"
#include "mochi/mochi.h"
#include "pipeline/model_directory.h"
#include "pipeline/networks.h"
#include "vae/vae_decoder.h"
#include "vae/vae_encoder.h"

namespace mochi {
namespace {

const std::filesystem::path kMicro = MOCHI_MICRO_DIR;

TEST(MicroModel, IsCompleteAndSmall) {
  const InspectReport report = inspect_model(kMicro);
  EXPECT_TRUE(report.has_config_file);
  EXPECT_TRUE(report.not_found.empty());
  EXPECT_EQ(report.components.size(), 4U);
  for (const ComponentReport& component : report.components) {
    EXPECT_TRUE(component.is_complete()) << component.name;
    EXPECT_TRUE(component.unexpected.empty()) << component.name;
  }
  std::uintmax_t num_bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kMicro)) {
    if (entry.is_regular_file()) num_bytes += entry.file_size();
  }
  EXPECT_LE(num_bytes, 28'000'000U);
}

Latents sample_briefly(int num_threads) {
  EngineOptions options;
  options.model_dir = kMicro;
  options.num_threads = num_threads;
  Engine engine(options);
  GenerateRequest request = engine.model().default_request();
  request.prompt = "a large green ring moves to the left on a dark background";
  request.width = 160;
  request.height = 96;
  request.num_frames = 7;
  request.num_steps = 3;
  return engine.sample(request);
}

TEST(MicroModel, SamplesTheSameLatentsWithAnyNumberOfThreads) {
  const Latents latents = sample_briefly(1);
  EXPECT_TRUE(std::ranges::all_of(latents.values, [](float x) { return std::isfinite(x); }));
  EXPECT_EQ(latents.values, sample_briefly(2).values);
}

// A disc that moves over a gradient, as RGB bytes [frames, rows, columns, 3].
std::vector<std::uint8_t> moving_disc(int frames, int rows, int columns) {
  std::vector<std::uint8_t> rgb;
  for (int t = 0; t < frames; ++t) {
    for (int y = 0; y < rows; ++y) {
      for (int x = 0; x < columns; ++x) {
        const bool is_inside = std::hypot(x - 100 - 4 * t, y - 90) < 34;
        const auto shade = static_cast<std::uint8_t>(60 + y / 4);
        rgb.push_back(is_inside ? 200 : 30);
        rgb.push_back(is_inside ? 50 : 40);
        rgb.push_back(is_inside ? 45 : shade);
      }
    }
  }
  return rgb;
}

// From pure noise, without a text.
std::vector<float> first_velocity(bool streams_layers) {
  const ModelDirectory directory(kMicro);
  const std::unique_ptr<Backend> backend = make_backend(Device::cpu());
  Observer nobody;
  const DitNetwork network(directory, {}, {*backend, DType::kF32, nobody, streams_layers});
  const Dit& dit = network.dit();
  Arena scratch;
  Context ctx{*backend, scratch};
  const Tensor latents(DType::kF32, {dit.config().latent_channels, 2, 8, 12});
  fill_normal(NoiseSource::kMochi, 1, latents.view().f32());
  const Tensor velocity(DType::kF32, latents.view().shape());
  const DitRun run = dit.prepare(*backend, dit.token_grid(2, 8, 12));
  const TextCondition text = dit.condition(ctx, ctx.activation({0, dit.config().text_width}));
  DensePolicy policy;
  dit.forward(ctx, run, {}, text, policy, latents, velocity);
  return {velocity.view().f32().begin(), velocity.view().f32().end()};
}

TEST(MicroModel, BlocksOnTheHostGiveTheSameVelocity) {
  EXPECT_EQ(first_velocity(true), first_velocity(false));
}

TEST(MicroModel, VaeGivesBackAMovingDisc) {
  constexpr int kFrames = 7;
  constexpr int kRows = 128;
  constexpr int kColumns = 192;
  const ModelDirectory directory(kMicro);
  const std::unique_ptr<Backend> backend = make_backend(Device::cpu());
  WeightStore store(*backend, DType::kF32);
  VaeEncoderWeights encoder_weights(directory.config().vae);
  VaeDecoderWeights decoder_weights(directory.config().vae);
  store.load(encoder_weights, *directory.open(Component::kEncoder));
  store.load(decoder_weights, *directory.open(Component::kDecoder));
  const VaeEncoder encoder(*backend, encoder_weights);
  const VaeDecoder decoder(*backend, decoder_weights);

  const std::vector<std::uint8_t> rgb = moving_disc(kFrames, kRows, kColumns);
  const Tensor frames(DType::kF32, {kFrames, kRows, kColumns, 3});
  std::ranges::transform(rgb, frames.view().f32().begin(), [](std::uint8_t byte) {
    return static_cast<float>(byte) / 127.5F - 1.0F;
  });
  const Tensor latents(DType::kF32, encoder.latent_shape(frames.view().shape()));
  Arena scratch;
  Context ctx{*backend, scratch};
  encoder.encode(ctx, frames, latents);

  double squares = 0.0;
  std::size_t position = 0;
  decode_video(ctx, decoder, latents, 1, [&](std::span<const std::uint8_t> frame, std::int64_t) {
    for (const std::uint8_t byte : frame) {
      const double difference = static_cast<double>(byte) - rgb[position++];
      squares += difference * difference;
    }
  });
  ASSERT_EQ(position, rgb.size());
  const double psnr = 10.0 * std::log10(255.0 * 255.0 * static_cast<double>(rgb.size()) / squares);
  // Sharp edges and no shading are unlike the clips it was trained on, where it reaches 40 dB.
  EXPECT_GE(psnr, 25.0);
  RecordProperty("psnr_db", std::to_string(psnr));
}

}  // namespace
}  // namespace mochi
