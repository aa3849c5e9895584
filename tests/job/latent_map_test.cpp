#include "job/latent_map.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"
#include "pipeline/tiny_model.h"

namespace mochi::job {
namespace {

// Terms of two channels: 1, a, b, a², ab, b².
TEST(LatentMapTest, IsAQuadraticPolynomialOfClampedLatents) {
  EXPECT_EQ(LatentMap::count_terms(2), 6U);
  EXPECT_EQ(LatentMap::count_terms(12), 91U);
  const LatentMap map{.weights = {1, 2, 3, 4, 5, 6, 0, 1, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0}};
  const std::vector<float> latents{0, 1, -8, 0, 2, 0.5F};  // (0, 0), (1, 2), (−8, 0.5)
  std::vector<float> rgb(9);
  map.map(latents, rgb);
  const float third = 1 + 2 * -3 + 3 * 0.5F + 4 * 9 + 5 * -1.5F + 6 * 0.25F;
  EXPECT_EQ(rgb, (std::vector<float>{1, 1 + 2 + 6 + 4 + 10 + 24, third, 0, 1, -3, 7, 9, 5.5F}));
}

TEST(LatentMapFitTest, FindsTheMapOfItsPairs) {
  LatentMapFit fit(2);
  const LatentMap wanted{
      .weights = {100, 3, -2, 1, 0.5F, -4, 50, -1, 0, 0, 2, 0, 0, 0, 4, 0, 0, 8}};
  for (int i = 0; i < 40; ++i) {
    const std::array latents{static_cast<float>(std::sin(i)), static_cast<float>(i % 7 - 3)};
    std::array<float, 3> rgb{};
    wanted.map(latents, rgb);
    fit.add(latents, {rgb[0], rgb[1], rgb[2]});
  }
  const LatentMap map = fit.solve(0);
  ASSERT_EQ(map.weights.size(), wanted.weights.size());
  for (std::size_t i = 0; i < map.weights.size(); ++i) {
    EXPECT_NEAR(map.weights[i], wanted.weights[i], 1e-4) << i;
  }
}

TEST(LatentMapFitTest, LeavesTheLeastSquares) {
  LatentMapFit fit(1);
  for (const auto& [value, red] : {std::pair{-1.0F, 1.0}, {-1.0F, 3.0}, {0.0F, 0.0}, {1.0F, 4.0}}) {
    fit.add(std::array{value}, {red, 0, 0});
  }
  const LatentMap map = fit.solve(0);  // 2 at −1, 0 at 0, 4 at 1
  EXPECT_NEAR(map.weights[0], 0, 1e-5);
  EXPECT_NEAR(map.weights[1], 1, 1e-5);
  EXPECT_NEAR(map.weights[2], 3, 1e-5);
}

TEST(LatentMapFitTest, APenaltyDeterminesWhatThePairsLeaveOpen) {
  LatentMapFit fit(1);
  for (int i = 0; i < 5; ++i) fit.add(std::array{0.0F}, {80, 90, 100});
  const LatentMap map = fit.solve();
  EXPECT_EQ(map.weights, (std::vector<float>{80, 0, 0, 90, 0, 0, 100, 0, 0}));
}

TEST(AddDecodedFrame, TakesTheMeanColorOfEachPosition) {
  // One channel, 1 row and 3 columns; each position stands for 2x2 pixels.
  const Latents latents{
      .values = {1, 2, -1}, .channels = 1, .num_frames = 1, .height = 1, .width = 3};
  std::vector<std::uint8_t> rgb;
  for (const int red : {10, 20, 50, 50, 4, 4, 20, 30, 70, 70, 8, 8}) {
    rgb.insert(rgb.end(), {static_cast<std::uint8_t>(red), 7, 0});
  }
  LatentMapFit fit(1);
  add_decoded_frame(latents, {.width = 6, .height = 2, .num_frames = 1}, rgb, fit);
  std::vector<float> colors(9);
  fit.solve(0).map(latents.values, colors);
  const std::vector<float> wanted{20, 60, 6, 7, 7, 7, 0, 0, 0};
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(colors[i], wanted[i], 1e-3) << i;
}

class LatentMapFile : public testing::Test {
 protected:
  std::string load_error(const std::string& content) {
    folder_.write("map.json", content);
    return message_of<Error>([&] { load_latent_map(path_, 1, decoder_); });
  }

  TempFolder folder_;
  std::filesystem::path path_ = folder_ / "map.json";
  LatentMap map_{.weights = {1.5F, -2, 0.1F, 3, 4, 1e-7F, 1, 2, 127.25F}};
  std::vector<ModelFile> decoder_{{"vae/decoder.safetensors", 123, "0123456789abcdef"}};
};

TEST_F(LatentMapFile, IsReadAsItWasWritten) {
  EXPECT_EQ(load_latent_map(path_, 1, decoder_), std::nullopt);
  save_latent_map(path_, map_, decoder_);
  EXPECT_EQ(load_latent_map(path_, 1, decoder_), map_);
  EXPECT_EQ(folder_.num_entries(), 1U);
}

TEST_F(LatentMapFile, BelongsToOneDecoder) {
  save_latent_map(path_, map_, decoder_);
  decoder_[0].name = "another/place.safetensors";
  EXPECT_TRUE(load_latent_map(path_, 1, decoder_));
  decoder_[0].fingerprint = "fedcba9876543210";
  EXPECT_EQ(load_latent_map(path_, 1, decoder_), std::nullopt);
  EXPECT_EQ(load_latent_map(path_, 1, {}), std::nullopt);
}

TEST_F(LatentMapFile, ThatIsDamagedIsRefused) {
  save_latent_map(path_, map_, decoder_);
  const std::string whole = read_text(path_);
  expect_contains(load_error(whole.substr(0, whole.size() / 2)), "map.json");
  expect_contains(message_of<Error>([&] {
                    folder_.write("map.json", whole);
                    load_latent_map(path_, 2, decoder_);
                  }),
                  "map.json: weights: wanted 18 numbers, found 9");
  expect_contains(load_error("{}"), "map.json: decoder: is missing");
  std::string other = whole;
  other.replace(other.find("weights"), 7, "weight");
  expect_contains(load_error(other), "map.json: weights: wanted 9 numbers, found 0");
  other = whole;
  other.replace(other.find("127.25"), 6, "1e+99");
  expect_contains(load_error(other),
                  "map.json: weights: wanted numbers in the range of fp32, found 1e+99");
}

// On a tiny random model.
class LatentMapOfEngine : public testing::Test {
 protected:
  class CountingObserver : public JobObserver {
   public:
    bool on_progress(const Progress& progress) override {
      if (progress.phase == Phase::kLoading && progress.num_done == 0)
        loaded.push_back(progress.item);
      return !stops || progress.phase != Phase::kDecoding;
    }
    void on_warning(std::string_view text) override { warnings.emplace_back(text); }

    bool stops = false;
    std::vector<std::string> loaded;
    std::vector<std::string> warnings;
  };

  LatentMapOfEngine() {
    write_tiny_model(folder_ / "model",
                     std::filesystem::path(MOCHI_GOLDEN_DIR) / "tokenizer/spiece.model");
  }
  Engine make_engine() const {
    return Engine(
        {.model_dir = folder_ / "model", .device = DeviceKind::kCpu, .cpu_offload = true});
  }

  TempFolder folder_;
  std::filesystem::path path_ = folder_ / "map.json";
  CountingObserver observer_;
};

TEST_F(LatentMapOfEngine, IsFittedOncePerDecoder) {
  Engine engine = make_engine();
  const LatentMap map = load_or_fit_latent_map(path_, engine, observer_);
  EXPECT_EQ(map.weights.size(), 3U * 91);
  for (const float weight : map.weights) EXPECT_TRUE(std::isfinite(weight));
  EXPECT_FALSE(observer_.loaded.empty());
  observer_.loaded.clear();
  EXPECT_EQ(load_or_fit_latent_map(path_, engine, observer_), map);
  EXPECT_TRUE(observer_.loaded.empty());
  EXPECT_TRUE(observer_.warnings.empty());

  const ModelConfig config = read_model_config(folder_ / "model/config.json");
  write_tensors(folder_ / "model/decoder.safetensors",
                random_tensors(VaeDecoderWeights(config.vae), 5000));
  Engine other = make_engine();
  const LatentMap of_other = load_or_fit_latent_map(path_, other, observer_);
  EXPECT_FALSE(of_other == map);
  EXPECT_EQ(load_or_fit_latent_map(path_, other, observer_), of_other);
}

TEST_F(LatentMapOfEngine, DoesWithoutItsFile) {
  Engine engine = make_engine();
  std::filesystem::create_directory(path_);
  load_or_fit_latent_map(path_, engine, observer_);
  ASSERT_EQ(observer_.warnings.size(), 2U);
  expect_contains(observer_.warnings[0], "the colours of previews are fitted again: ");
  expect_contains(observer_.warnings[1], "the colours of previews are not saved: ");
}

TEST_F(LatentMapOfEngine, CanBeStopped) {
  Engine engine = make_engine();
  observer_.stops = true;
  EXPECT_THROW(load_or_fit_latent_map(path_, engine, observer_), Cancelled);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

// The bundled model's map explains most of what its decoder draws.
TEST(LatentMapOfTheBundledModel, ResemblesItsDecoder) {
  if (!std::string(MOCHI_SANITIZERS).empty()) GTEST_SKIP() << "too slow under sanitizers";
  Engine engine({.model_dir = MOCHI_MICRO_DIR});
  Observer observer;
  const LatentMap map = fit_latent_map(engine, observer);
  GenerateRequest request = engine.model().default_request();
  request.prompt = "a pink star on a green background";
  request.num_frames = 1;
  request.num_steps = 8;
  request.linear_steps = 4;
  const Latents latents = engine.sample(request);
  const std::int64_t plane = latents.height * latents.width;
  const std::int64_t cell = request.width / latents.width;
  std::vector<float> colors(static_cast<std::size_t>(3 * plane));
  map.map(latents.values, colors);
  double squares = 0;
  engine.decode(latents, [&](std::span<const std::uint8_t> rgb, std::int64_t) {
    for (std::int64_t at = 0; at < plane; ++at) {
      const std::int64_t y = at / latents.width * cell + cell / 2;
      const std::int64_t x = at % latents.width * cell + cell / 2;
      for (std::int64_t c = 0; c < 3; ++c) {
        const double error = colors[static_cast<std::size_t>(c * plane + at)] -
                             rgb[static_cast<std::size_t>((y * request.width + x) * 3 + c)];
        squares += error * error;
      }
    }
  });
  const double rms = std::sqrt(squares / static_cast<double>(3 * plane));
  RecordProperty("rms_error", std::to_string(rms));
  EXPECT_LT(rms, 40);  // of 255
}

}  // namespace
}  // namespace mochi::job
