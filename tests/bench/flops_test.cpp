// The formulas of whole networks against what their operations are counted to do.
#include "bench/flops.h"

#include <gtest/gtest.h>

#include "bench/dit_bench.h"
#include "bench/op_cost.h"
#include "bench/profiling_backend.h"
#include "pipeline/request.h"
#include "text/t5_encoder.h"
#include "vae/vae_decoder.h"

namespace mochi::bench {
namespace {

class Flops : public testing::Test {
 protected:
  // Runs and counts.
  double count(const std::function<void(Backend&)>& run) {
    ProfilingBackend counting(*backend_, /*is_timing=*/false);
    run(counting);
    return counting.total_cost().flops;
  }

  std::unique_ptr<Backend> backend_ = make_backend(Device::cpu());
  Sizes sizes_ = sizes_of("micro");
};

TEST_F(Flops, DitIsTheSumOfItsOperations) {
  DitConfig config = sizes_.config.dit;
  config.depth = 2;
  const RandomNetwork network(*backend_, DType::kF32, DitWeights(config));
  const Dit dit(network.weights);
  Arena scratch;
  Context ctx{*backend_, scratch};
  RandomInputs inputs(*backend_, 1);
  const TextCondition text = dit.condition(ctx, inputs.activations({5, config.text_width}));
  const TokenGrid grid = dit.token_grid(2, 4, 6);
  const DitRun run = dit.prepare(*backend_, grid);
  const Shape latents{config.latent_channels, 2, 4, 6};
  const TensorView z = inputs.f32(latents);
  const TensorView velocity = inputs.output(DType::kF32, latents);
  DensePolicy policy;
  const double counted = count([&](Backend& backend) {
    Context counting{backend, scratch};
    dit.forward(counting, run, {}, text, policy, z, velocity);
  });
  EXPECT_DOUBLE_EQ(dit_flops(config, grid, 5), counted);
}

TEST_F(Flops, DecoderIsTheSumOfItsOperations) {
  const VaeConfig& config = sizes_.config.vae;
  const RandomNetwork network(*backend_, DType::kF32, VaeDecoderWeights(config));
  const VaeDecoder decoder(*backend_, network.weights);
  RandomInputs inputs(*backend_, 1);
  const TensorView latents = inputs.f32({config.latent_channels, 3, 2, 4});
  Arena scratch;
  const double counted = count([&](Backend& backend) {
    Context counting{backend, scratch};
    decode_video(counting, decoder, latents, 1, [](auto, auto) {});
  });
  EXPECT_DOUBLE_EQ(decode_flops(config, 3, 2, 4), counted);
}

TEST_F(Flops, TextEncoderIsTheSumOfItsOperations) {
  const TextEncoderConfig& config = sizes_.config.text_encoder;
  const RandomNetwork network(*backend_, DType::kF32, T5Weights(config));
  const T5Encoder encoder(*backend_, network.weights);
  const std::vector<std::int32_t> ids{1, 2, 3, 4, 5};
  Arena scratch;
  RandomInputs inputs(*backend_, 1);
  const TensorView features = inputs.output({5, config.hidden_size});
  const double counted = count([&](Backend& backend) {
    Context counting{backend, scratch};
    encoder.encode(counting, ids, features);
  });
  EXPECT_DOUBLE_EQ(t5_flops(config, 5), counted);
}

// As the and the papers' figures are: 4·n²·heads·head_dim, 1.05 PFLOP of a whole decoding.
TEST_F(Flops, KnownFigures) {
  AttentionInputs in;
  in.q = TensorView(nullptr, DType::kBF16, {24, 44736, 128});
  in.k = in.q;
  EXPECT_DOUBLE_EQ(cost_of(ops::Attention{.in = in, .to = {}}).flops,
                   4.0 * 44736 * 44736 * 24 * 128);
  EXPECT_NEAR(decode_flops(VaeConfig(), 28, 60, 106) * 1e-15, 1.05, 0.01);
}

TEST_F(Flops, BytesAreCountedOnce) {
  RandomInputs inputs(*backend_, 1);
  const TensorView x = inputs.activations({4, 8});
  const TensorView weight = inputs.f32({6, 8}, kNoRows);
  const TensorView out = inputs.output({4, 6});
  ops::Linear linear{.x = x, .weight = weight, .out = out};
  EXPECT_DOUBLE_EQ(cost_of(linear).bytes, 4.0 * (4 * 8 + 6 * 8 + 4 * 6));
  EXPECT_DOUBLE_EQ(cost_of(linear).flops, 2.0 * 4 * 6 * 8);
  linear.accumulate = true;
  EXPECT_DOUBLE_EQ(cost_of(linear).bytes, 4.0 * (4 * 8 + 6 * 8 + 2 * 4 * 6));
}

}  // namespace
}  // namespace mochi::bench
