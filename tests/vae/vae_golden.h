// Helpers of the VAE's tests: goldens, networks with random weights, errors.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "support/device_tensors.h"
#include "support/golden.h"
#include "vae/vae_decoder.h"
#include "vae/vae_encoder.h"

namespace mochi {

class VaeGolden : public Golden {
 public:
  using Golden::Golden;

  VaeConfig config() const {
    const Json json = Golden::config();
    JsonReader section(json.at("vae"), "golden", "vae");
    return parse_vae_config(section);
  }
};

// Transposes [channels, pixels…] to [pixels…, channels] or, with exchanged sizes, back.
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
  explicit VaeBench(DType matrix_dtype = DType::kF32,
                    std::unique_ptr<Backend> on = make_backend(Device::cpu()))
      : backend(std::move(on)), store(*backend, matrix_dtype) {}

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

  std::unique_ptr<Backend> backend;
  Arena arena{backend->allocator()};
  Context ctx{*backend, arena};
  WeightStore store;
};

// Returns the sizes of a small decoder with uneven widths.
inline VaeConfig small_config() {
  VaeConfig config;
  config.norm_groups = 4;
  config.decoder_channels = {48, 32, 20, 16};
  config.decoder_res_blocks = {1, 1, 2, 1, 1};
  return config;
}

}  // namespace mochi
