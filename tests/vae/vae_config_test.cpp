#include "vae/vae_config.h"

#include <functional>
#include <map>

#include "base/error.h"
#include "vae_golden.h"

namespace mochi {
namespace {

VaeConfig parse(const std::string& text) {
  const Json json = parse_json(text, "config.json");
  JsonReader reader(json, "config.json", "vae");
  return parse_vae_config(reader);
}

std::string message_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(VaeConfig, DefaultsAreMochi1) {
  const VaeConfig config = parse("{}");
  EXPECT_EQ(config.spatial_compression(), 8);
  EXPECT_EQ(config.temporal_compression(), 6);
  EXPECT_EQ(config.num_frames(28), 163);
  EXPECT_EQ(config.num_latent_frames(163), 28);
  EXPECT_EQ(config.num_latent_frames(1), 1);
  EXPECT_THROW(config.num_latent_frames(162), Error);
  EXPECT_THROW(config.num_latent_frames(-5), Error);
}

TEST(VaeConfig, DefaultsHaveTheSizesOfTheCheckpoint) {
  const VaeDecoderWeights decoder{VaeConfig{}};
  std::int64_t num_parameters = 0;
  for (const auto& [name, shape] : list_parameters(decoder)) num_parameters += shape.num_elements();
  EXPECT_NEAR(static_cast<double>(num_parameters), 362e6, 1e6);  // the published number
}

TEST(VaeConfig, ReadsEveryField) {
  const VaeConfig config = parse(R"({"latent_channels": 2, "norm_groups": 4,
      "decoder_channels": [16, 8], "decoder_res_blocks": [1, 2, 3],
      "encoder_channels": [4, 12], "encoder_res_blocks": [3, 1, 2],
      "encoder_attention": [false, true, false], "encoder_attention_head_dim": 6,
      "temporal_factors": [4], "spatial_factors": [3], "fourier_frequencies": [5],
      "latent_mean": [0.5, -1], "latent_std": [2, 0.25]})");
  EXPECT_EQ(config.latent_channels, 2);
  EXPECT_EQ(config.norm_groups, 4);
  EXPECT_EQ(config.decoder_channels, (std::vector<std::int64_t>{16, 8}));
  EXPECT_EQ(config.decoder_res_blocks, (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(config.encoder_channels, (std::vector<std::int64_t>{4, 12}));
  EXPECT_EQ(config.encoder_res_blocks, (std::vector<std::int64_t>{3, 1, 2}));
  EXPECT_EQ(config.encoder_attention, (std::vector<bool>{false, true, false}));
  EXPECT_EQ(config.encoder_attention_head_dim, 6);
  EXPECT_EQ(config.temporal_compression(), 4);
  EXPECT_EQ(config.spatial_compression(), 3);
  EXPECT_EQ(config.fourier_frequencies, (std::vector<std::int64_t>{5}));
  EXPECT_EQ(config.latent_mean, (std::vector<double>{0.5, -1.0}));
  EXPECT_EQ(config.latent_std, (std::vector<double>{2.0, 0.25}));
}

TEST(VaeConfig, RefusesBadValues) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {R"({"latent_channel": 12})", "latent_channels"},
      {R"({"latent_channels": 0})", "latent_channels"},
      {R"({"latent_channels": 3})", "latent_mean"},
      {R"({"norm_groups": -1})", "norm_groups"},
      {R"({"norm_groups": 48})", "decoder_channels"},
      {R"({"decoder_channels": [768, 512, 256]})", "decoder_channels"},
      {R"({"decoder_channels": [768, 512, 256, 99999999]})", "decoder_channels"},
      {R"({"decoder_res_blocks": [3, 6, 4, 3]})", "decoder_res_blocks"},
      {R"({"decoder_res_blocks": [3, 6, 0, 3, 3]})", "decoder_res_blocks"},
      {R"({"encoder_channels": [64, 128, 256]})", "encoder_channels"},
      {R"({"encoder_res_blocks": []})", "encoder_res_blocks"},
      {R"({"encoder_attention": [true]})", "encoder_attention"},
      {R"({"encoder_attention_head_dim": 48})", "encoder_attention_head_dim"},
      {R"({"temporal_factors": [3, 2]})", "spatial_factors"},
      {R"({"temporal_factors": [3, 2, 0]})", "temporal_factors"},
      {R"({"spatial_factors": [2, 2, 1000]})", "spatial_factors"},
      {R"({"temporal_factors": [16, 16, 16, 16, 16, 16, 16, 16, 16]})", "temporal_factors"},
      {R"({"temporal_factors": []})", "temporal_factors"},
      {R"({"fourier_frequencies": [6, 700]})", "fourier_frequencies"},
      {R"({"fourier_frequencies": [-9223372036854775808]})", "fourier_frequencies"},
      {R"({"latent_std": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]})", "latent_std"},
      {R"({"latent_mean": [1]})", "latent_mean"}};
  for (const auto& [text, field] : cases) {
    const std::string message = message_of([&] { parse(text); });
    EXPECT_NE(message.find("config.json"), std::string::npos) << text << ": " << message;
    EXPECT_NE(message.find(field), std::string::npos) << text << ": " << message;
  }
}

TEST(VaeConfig, InferenceNeedsTheUsualNormGroups) {
  // Shapes do not determine the number of groups, and 32 does not divide the goldens' widths.
  const VaeGolden decoder("vae/decoder_weights");
  const std::string message =
      message_of([&] { infer_vae_config(decoder.weights().get(), nullptr); });
  EXPECT_NE(message.find("norm_groups = 32"), std::string::npos) << message;
}

// A source that has shapes only.
class ShapeSource final : public TensorSource {
 public:
  template <typename W>
  explicit ShapeSource(const W& weights) {
    for (const auto& [name, shape] : list_parameters(weights)) shapes_[name] = shape;
  }

  std::map<std::string, Shape, std::less<>>& shapes() { return shapes_; }
  std::string description() const override { return "'shapes'"; }
  std::vector<std::string> names() const override {
    std::vector<std::string> result;
    result.reserve(shapes_.size());
    for (const auto& [name, shape] : shapes_) result.push_back(name);
    return result;
  }
  bool contains(std::string_view name) const override { return shapes_.contains(name); }
  TensorInfo info(std::string_view name) const override {
    const auto found = shapes_.find(name);
    if (found == shapes_.end()) fail_missing(name);
    return {DType::kF32, found->second, "shapes"};
  }
  std::vector<StoredRows> stored_rows(std::string_view) const override { return {}; }
  std::vector<std::string> unread() const override { return {}; }

 private:
  std::map<std::string, Shape, std::less<>> shapes_;
};

VaeConfig uneven_config() {
  VaeConfig config;
  config.decoder_channels = {128, 64, 96};
  config.decoder_res_blocks = {2, 1, 3, 1};
  config.encoder_channels = {32, 96, 64};
  config.encoder_res_blocks = {1, 2, 1, 3};
  config.encoder_attention = {false, true, false, true};
  config.temporal_factors = {3, 1};
  config.spatial_factors = {2, 2};
  return config;
}

TEST(VaeConfig, InferenceReadsSizesFromShapes) {
  for (const VaeConfig& want : {VaeConfig{}, uneven_config()}) {
    const ShapeSource decoder{VaeDecoderWeights(want)};
    const ShapeSource encoder{VaeEncoderWeights(want)};
    const VaeConfig found = infer_vae_config(&decoder, &encoder);
    EXPECT_EQ(found.latent_channels, want.latent_channels);
    EXPECT_EQ(found.decoder_channels, want.decoder_channels);
    EXPECT_EQ(found.decoder_res_blocks, want.decoder_res_blocks);
    EXPECT_EQ(found.encoder_channels, want.encoder_channels);
    EXPECT_EQ(found.encoder_res_blocks, want.encoder_res_blocks);
    EXPECT_EQ(found.encoder_attention, want.encoder_attention);
    EXPECT_EQ(found.temporal_factors, want.temporal_factors);
    EXPECT_EQ(found.spatial_factors, want.spatial_factors);
  }
}

TEST(VaeConfig, HalvesCanBeInferredAlone) {
  const ShapeSource decoder{VaeDecoderWeights(VaeConfig{})};
  const ShapeSource encoder{VaeEncoderWeights(VaeConfig{})};
  EXPECT_EQ(infer_vae_config(&decoder, nullptr).decoder_channels, VaeConfig().decoder_channels);
  EXPECT_EQ(infer_vae_config(nullptr, &encoder).encoder_channels, VaeConfig().encoder_channels);
}

TEST(VaeConfig, InferenceRefusesInconsistentShapes) {
  const ShapeSource encoder{VaeEncoderWeights(VaeConfig{})};
  const ShapeSource other{VaeDecoderWeights(uneven_config())};
  EXPECT_THROW(infer_vae_config(&other, &encoder), Error);
  EXPECT_THROW(infer_vae_config(&encoder, nullptr), Error);  // there is no decoder

  ShapeSource wrong_rank{VaeDecoderWeights(VaeConfig{})};
  wrong_rank.shapes()["blocks.0.0.weight"] = {768, 12};
  EXPECT_THROW(infer_vae_config(&wrong_rank, nullptr), Error);

  // A file can claim such a size without any bytes.
  ShapeSource huge{VaeDecoderWeights(VaeConfig{})};
  huge.shapes()["blocks.0.0.weight"] = {768, std::int64_t{1} << 40, 0, 1, 1};
  EXPECT_THROW(infer_vae_config(&huge, nullptr), Error);

  ShapeSource wrong_proj{VaeDecoderWeights(VaeConfig{})};
  wrong_proj.shapes()["blocks.1.proj.weight"] = {6143, 768};
  EXPECT_THROW(infer_vae_config(&wrong_proj, nullptr), Error);

  ShapeSource wrong_features{VaeEncoderWeights(VaeConfig{})};
  wrong_features.shapes()["layers.0.weight"] = {64, 9};
  EXPECT_THROW(infer_vae_config(nullptr, &wrong_features), Error);
}

}  // namespace
}  // namespace mochi
