// What the VAE's tests share: goldens, networks with random weights, errors.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/json.h"
#include "io/tensor_source.h"
#include "vae/vae_decoder.h"
#include "vae/vae_encoder.h"

namespace mochi {

class Golden {
 public:
  explicit Golden(const std::string& name)
      : checkpoint_(
            Checkpoint::open(std::filesystem::path(MOCHI_GOLDEN_DIR) / (name + ".safetensors"))) {}

  std::vector<float> values(const std::string& name) const {
    std::vector<float> result(
        static_cast<std::size_t>(checkpoint_->info(name).shape.num_elements()));
    checkpoint_->read_f32(name, result);
    return result;
  }
  Shape shape(const std::string& name) const { return checkpoint_->info(name).shape; }

  // How far PyTorch's own bf16 run is from fp32.
  float bf16_error(const std::string& output) const { return values("bf16_error." + output)[0]; }

  // The network's parameters under their own names.
  std::shared_ptr<TensorSource> weights() const {
    const std::string prefix = "weights.";
    KeyMappedSource::KeyMap map;
    for (const std::string& name : checkpoint_->names()) {
      if (name.starts_with(prefix)) map[name.substr(prefix.size())] = {{.source_name = name}};
    }
    return std::make_shared<KeyMappedSource>(checkpoint_, std::move(map), prefix);
  }

  VaeConfig config() const {
    const Json json = parse_json(checkpoint_->metadata().at("config"), "golden");
    JsonReader section(json.at("vae"), "golden", "vae");
    return parse_vae_config(section);
  }

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
};

// ‖got − want‖ / ‖want‖.
inline double relative_error(std::span<const float> got, std::span<const float> want) {
  EXPECT_EQ(got.size(), want.size());
  double difference = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    const double delta = static_cast<double>(got[i]) - want[i];
    difference += delta * delta;
    norm += static_cast<double>(want[i]) * want[i];
  }
  return std::sqrt(difference / norm);
}

// [channels, pixels…] to [pixels…, channels] and, with the sizes exchanged, back.
inline std::vector<float> transpose(std::span<const float> values, std::size_t num_rows,
                                    std::size_t num_columns) {
  std::vector<float> result(values.size());
  for (std::size_t row = 0; row < num_rows; ++row) {
    for (std::size_t column = 0; column < num_columns; ++column) {
      result[column * num_rows + row] = values[row * num_columns + column];
    }
  }
  return result;
}

inline Tensor random_tensor(const Shape& shape, unsigned seed) {
  Tensor tensor(DType::kF32, shape);
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  for (float& value : tensor.view().f32()) value = normal(generator);
  return tensor;
}

// A backend, scratch memory, and weights of one type.
struct VaeBench {
  explicit VaeBench(DType matrix_dtype = DType::kF32) : store(*backend, matrix_dtype) {}

  VaeDecoder load_decoder(const VaeConfig& config, TensorSource& source) {
    VaeDecoderWeights weights(config);
    store.load(weights, source);
    EXPECT_TRUE(source.unread().empty()) << source.unread().front();
    return {*backend, weights};
  }
  VaeDecoder random_decoder(const VaeConfig& config) {
    VaeDecoderWeights weights(config);
    store.init_random(weights, 1);
    return {*backend, weights};
  }
  VaeEncoder load_encoder(const VaeConfig& config, TensorSource& source) {
    VaeEncoderWeights weights(config);
    store.load(weights, source);
    EXPECT_TRUE(source.unread().empty()) << source.unread().front();
    return {*backend, weights};
  }

  std::unique_ptr<Backend> backend = make_backend(Device::kCpu);
  Arena arena{backend->allocator()};
  Context ctx{*backend, arena};
  WeightStore store;
};

// A small decoder of uneven widths.
inline VaeConfig small_config() {
  VaeConfig config;
  config.norm_groups = 4;
  config.decoder_channels = {48, 32, 20, 16};
  config.decoder_res_blocks = {1, 1, 2, 1, 1};
  return config;
}

}  // namespace mochi
