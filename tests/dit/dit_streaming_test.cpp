// The transformer with its blocks' weights on the host.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/noise.h"
#include "dit/block_policy.h"
#include "dit/dit.h"

namespace mochi {
namespace {

DitConfig streamed_config() {
  DitConfig config;
  config.depth = 4;
  config.num_heads = 2;
  config.hidden_size_x = 32;
  config.hidden_size_y = 16;
  config.mlp_hidden_x = 48;
  config.mlp_hidden_y = 24;
  config.text_width = 24;
  return config;
}

// Returns the velocities of two passes, concatenated.
std::vector<float> run_twice(bool is_streamed, std::vector<std::size_t>* layers = nullptr) {
  const std::unique_ptr<Backend> backend = make_backend(Device::cpu());
  WeightStore store(*backend, DType::kF32);
  DitWeights weights(streamed_config());
  if (is_streamed) store.stream_layers(dit_layer_of);
  store.init_random(weights, 11);
  const Dit dit(weights, store.streamer());
  Arena scratch;
  Context ctx{*backend, scratch};
  const DitRun run = dit.prepare(*backend, dit.token_grid(2, 6, 8));
  const Tensor features(DType::kF32, {3, 24});
  fill_normal(NoiseSource::kMochi, 1, features.view().f32());
  const TextCondition text = dit.condition(ctx, features);
  const Tensor latents(DType::kF32, {12, 2, 6, 8});
  fill_normal(NoiseSource::kMochi, 2, latents.view().f32());
  const Tensor velocity(DType::kF32, latents.view().shape());
  DensePolicy policy;
  std::vector<float> values;
  for (int step = 0; step < 2; ++step) {
    DitCall call{Branch::kCond, step, 1.0F - 0.5F * static_cast<float>(step)};
    if (layers != nullptr) {
      call.on_layer = [&](Branch, std::size_t layer, const TensorView& tokens) {
        EXPECT_EQ(tokens.shape(), (Shape{24, 32}));
        layers->push_back(layer);
      };
    }
    dit.forward(ctx, run, call, text, policy, latents, velocity);
    values.insert(values.end(), velocity.view().f32().begin(), velocity.view().f32().end());
  }
  return values;
}

TEST(DitStreaming, GivesTheSameVelocities) {
  const std::vector<float> resident = run_twice(false);
  EXPECT_TRUE(std::ranges::all_of(resident, [](float value) { return std::isfinite(value); }));
  EXPECT_EQ(run_twice(true), resident);
}

TEST(DitStreaming, LayersAreReportedInOrder) {
  std::vector<std::size_t> layers;
  run_twice(false, &layers);
  EXPECT_EQ(layers, (std::vector<std::size_t>{0, 1, 2, 3, 0, 1, 2, 3}));
}

TEST(DitStreaming, BlocksAreIdentifiedByTheirNames) {
  EXPECT_EQ(dit_layer_of("blocks.0.mod_x.weight"), 0U);
  EXPECT_EQ(dit_layer_of("blocks.47.attn.qkv_y.weight"), 47U);
  EXPECT_EQ(dit_layer_of("t5_yproj.weight"), std::nullopt);
  EXPECT_EQ(dit_layer_of("blocks.x.weight"), std::nullopt);
  EXPECT_EQ(dit_layer_of("blocks.3"), std::nullopt);
}

}  // namespace
}  // namespace mochi
