#include "vae/vae_decoder.h"

#include <cstring>
#include <stdexcept>

#include "base/error.h"
#include "base/parallel_for.h"
#include "vae/vae_blocks.h"
#include "vae_golden.h"

namespace mochi {
namespace {

// Decodes latents [C, T, H, W] in chunks of the given lengths. Returns [frames, H·8, W·8, 3]
// concatenated.
std::vector<float> decode_in_pieces(VaeBench& bench, const VaeDecoder& decoder,
                                    const TensorView& latents,
                                    const std::vector<std::int64_t>& lengths) {
  VaeDecoderStream stream(*bench.backend, decoder, latents.dim(2), latents.dim(3));
  const std::int64_t num_latent_frames = latents.dim(1);
  const std::int64_t frame_size = latents.dim(2) * latents.dim(3);
  std::vector<float> result;
  std::int64_t begin = 0;
  for (const std::int64_t length : lengths) {
    const Arena::Scope scope(bench.arena);
    const Tensor piece(DType::kF32, {latents.dim(0), length, latents.dim(2), latents.dim(3)});
    for (std::int64_t c = 0; c < latents.dim(0); ++c) {
      std::memcpy(piece.view().f32().data() + c * length * frame_size,
                  latents.f32().data() + (c * num_latent_frames + begin) * frame_size,
                  static_cast<std::size_t>(length * frame_size) * sizeof(float));
    }
    const std::int64_t num_frames = stream.num_frames(length);
    const Tensor on_device = to_device(*bench.backend, piece);
    const TensorView frames = stream.decode(bench.ctx, on_device);
    EXPECT_EQ(frames.dim(0), num_frames);
    const std::vector<float> values = to_host(*bench.backend, frames);
    result.insert(result.end(), values.begin(), values.end());
    begin += length;
  }
  EXPECT_EQ(begin, num_latent_frames);
  return result;
}

// Returns the golden's latents normalised, as the sampler would leave them.
Tensor normalised_latents(const VaeGolden& golden, const VaeConfig& config) {
  Tensor latents(DType::kF32, golden.shape("input.latents"));
  std::vector<float> values = golden.values("input.latents");
  const std::size_t channel_size = values.size() / config.latent_mean.size();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t c = i / channel_size;
    latents.view().f32()[i] =
        static_cast<float>((values[i] - config.latent_mean[c]) / config.latent_std[c]);
  }
  return latents;
}

double golden_error(VaeBench& bench, const VaeGolden& golden) {
  const VaeGolden weights("vae/decoder_weights");
  const VaeConfig config = weights.config();
  const VaeDecoder decoder = bench.load_decoder(config, *weights.weights());
  const Tensor latents = normalised_latents(golden, config);
  const auto frames = decode_in_pieces(bench, decoder, latents, {latents.view().shape()[1]});
  return relative_error(frames, transpose(golden.values("output.raw"), 3, frames.size() / 3));
}

class VaeDecoderGolden : public ::testing::TestWithParam<std::string> {
 protected:
  double error(DType matrix_dtype) const {
    VaeBench bench(matrix_dtype);
    return golden_error(bench, golden_);
  }

  VaeGolden golden_{"vae/decoder_" + GetParam()};
};

TEST_P(VaeDecoderGolden, Fp32) {
  const double error_f32 = error(DType::kF32);
  record_error("relative_error", error_f32);
  EXPECT_LE(error_f32, 1e-5);
}

TEST_P(VaeDecoderGolden, Bf16Weights) {
  const double error_bf16 = error(DType::kBF16);
  record_error("relative_error", error_bf16);
  EXPECT_LE(error_bf16, 1.2 * golden_.bf16_error("raw"));
}

INSTANTIATE_TEST_SUITE_P(Cases, VaeDecoderGolden, ::testing::Values("t1", "t2", "t5"));

class VaeDecoderOn : public OnDevice {};

TEST_P(VaeDecoderOn, MatchesTheGoldens) {
  for (const std::string name : {"t1", "t2", "t5"}) {
    VaeBench bench(dtype(), make());
    const VaeGolden golden("vae/decoder_" + name);
    const double error = golden_error(bench, golden);
    record_error(name, error);
    EXPECT_LE(error, dtype() == DType::kF32 ? 1e-5 : golden.bf16_limit("raw")) << name;
  }
}

TEST_P(VaeDecoderOn, StreamedEqualsWhole) {
  VaeBench bench(dtype(), make());
  const VaeDecoder decoder = bench.random_decoder(small_config());
  const Tensor latents = random_tensor({12, 5, 3, 4}, 7);
  const auto whole = decode_in_pieces(bench, decoder, latents, {5});
  EXPECT_EQ(whole.size(), 25U * 24 * 32 * 3);
  const std::vector<std::vector<std::int64_t>> cuts{
      {1, 1, 1, 1, 1}, {2, 2, 1}, {3, 2}, {1, 4}, {2, 3}};
  for (const auto& lengths : cuts) {
    EXPECT_LE(relative_error(decode_in_pieces(bench, decoder, latents, lengths), whole), 1e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(On, VaeDecoderOn, all_backends(), name_of_case);

TEST(VaeDecoder, LaterFramesDoNotReachBack) {
  VaeBench bench;
  const VaeDecoder decoder = bench.random_decoder(small_config());
  const Tensor latents = random_tensor({12, 3, 2, 2}, 8);
  const auto before = decode_in_pieces(bench, decoder, latents, {3});
  for (std::size_t c = 0; c < 12; ++c) latents.view().f32()[c * 12 + 8] += 1.0F;
  const auto after = decode_in_pieces(bench, decoder, latents, {3});
  const std::size_t num_same = 7U * 16 * 16 * 3;  // the frames of two latent frames
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + num_same, after.begin()));
  EXPECT_NE(before[num_same], after[num_same]);
}

TEST(VaeDecoder, SameBitsForAnyNumberOfThreads) {
  VaeBench bench(DType::kBF16);
  const VaeDecoder decoder = bench.random_decoder(small_config());
  const Tensor latents = random_tensor({12, 2, 5, 6}, 9);
  std::vector<float> first;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    const auto frames = decode_in_pieces(bench, decoder, latents, {2});
    if (first.empty()) first = frames;
    EXPECT_TRUE(frames == first);
  }
  set_num_threads(0);
}

// The frames are so large that they are processed in slices, and constant in space, so that a
// decoder for small frames gives the same values.
TEST(VaeDecoder, SlicesOfLargeFramesFitTogether) {
  VaeConfig config;
  config.norm_groups = 2;
  config.decoder_channels = {4, 4};
  config.decoder_res_blocks = {1, 1, 1};
  config.temporal_factors = {2};
  config.spatial_factors = {1};
  config.encoder_channels = {4, 4};
  config.encoder_res_blocks = {1, 1, 1};
  config.encoder_attention = {false, false, false};
  VaeBench bench;
  const VaeDecoder decoder = bench.random_decoder(config);
  const auto decode_constant = [&](std::int64_t size) {
    const Tensor values = random_tensor({12, 2}, 10);
    const Tensor latents(DType::kF32, {12, 2, size, size});
    for (std::int64_t i = 0; i < latents.view().num_elements(); ++i) {
      latents.view().f32()[i] = values.view().f32()[i / (size * size)];
    }
    return decode_in_pieces(bench, decoder, latents, {2});
  };
  constexpr std::int64_t kLarge = 1100;
  ASSERT_EQ(vae::frames_per_slice(*bench.backend, kLarge * kLarge * 4), 1);
  const auto large = decode_constant(kLarge);
  const auto small = decode_constant(2);
  for (std::size_t frame = 0; frame < 3; ++frame) {
    for (const std::size_t pixel : {0, 123456, 1209999}) {
      for (std::size_t c = 0; c < 3; ++c) {
        EXPECT_NEAR(large[(frame * kLarge * kLarge + pixel) * 3 + c], small[frame * 12 + c], 2e-5);
      }
    }
  }
}

TEST(VaeDecoder, MemoryDoesNotGrowWithTheVideo) {
  VaeBench bench;
  const VaeDecoder decoder = bench.random_decoder(small_config());
  VaeDecoderStream stream(*bench.backend, decoder, 16, 16);
  const Tensor latents = random_tensor({12, 1, 16, 16}, 11);
  std::size_t capacity = 0;
  for (int i = 0; i < 6; ++i) {
    const Arena::Scope scope(bench.arena);
    stream.decode(bench.ctx, latents);
    // The start produces fewer frames than later calls, so the arena reaches its final size after
    // it.
    if (i < 3) capacity = bench.arena.capacity_bytes();
    EXPECT_EQ(bench.arena.capacity_bytes(), capacity);
  }
}

TEST(VaeDecoder, SinkGetsAllFramesInOrder) {
  VaeBench bench;
  const VaeDecoder decoder = bench.random_decoder(small_config());
  const Tensor latents = random_tensor({12, 5, 2, 3}, 12);
  const auto frames = decode_in_pieces(bench, decoder, latents, {5});
  for (const std::int64_t chunk_frames : {1, 2, 3, 100}) {
    std::vector<std::uint8_t> bytes;
    std::int64_t num_frames = 0;
    decode_video(bench.ctx, decoder, latents, chunk_frames,
                 [&](std::span<const std::uint8_t> rgb, std::int64_t frame_idx) {
                   EXPECT_EQ(frame_idx, num_frames++);
                   EXPECT_EQ(rgb.size(), 16U * 24 * 3);
                   bytes.insert(bytes.end(), rgb.begin(), rgb.end());
                 });
    EXPECT_EQ(num_frames, 25);
    ASSERT_EQ(bytes.size(), frames.size());
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const float value = std::clamp((frames[i] + 1.0F) / 2.0F, 0.0F, 1.0F) * 255.0F;
      ASSERT_NEAR(bytes[i], value, 0.51F);
    }
  }
}

TEST(VaeDecoder, AnExceptionOfTheSinkEndsDecoding) {
  VaeBench bench;
  const VaeDecoder decoder = bench.random_decoder(small_config());
  const Tensor latents = random_tensor({12, 4, 2, 2}, 13);
  std::int64_t num_frames = 0;
  EXPECT_THROW(decode_video(bench.ctx, decoder, latents, 1,
                            [&](std::span<const std::uint8_t>, std::int64_t) {
                              if (++num_frames == 3) throw std::runtime_error("cancelled");
                            }),
               std::runtime_error);
  EXPECT_EQ(num_frames, 3);
}

TEST(VaeDecoder, RefusesOtherLatents) {
  VaeBench bench;
  const VaeDecoder decoder = bench.random_decoder(small_config());
  VaeDecoderStream stream(*bench.backend, decoder, 2, 3);
  const std::vector<Shape> shapes{{12, 1, 3, 2}, {11, 1, 2, 3}, {12, 0, 2, 3}, {12, 2, 3}};
  for (const Shape& shape : shapes) {
    const Tensor latents(DType::kF32, shape);
    EXPECT_THROW(stream.decode(bench.ctx, latents), Error) << shape.to_string();
  }
  const auto sink = [](std::span<const std::uint8_t>, std::int64_t) {};
  const Tensor latents(DType::kF32, {12, 1, 2, 3});
  EXPECT_THROW(decode_video(bench.ctx, decoder, latents, 0, sink), Error);
  EXPECT_THROW(decode_video(bench.ctx, decoder, latents.view().reshape({72}), 1, sink), Error);
  EXPECT_THROW(VaeDecoderStream(*bench.backend, decoder, 0, 3), Error);
}

}  // namespace
}  // namespace mochi
