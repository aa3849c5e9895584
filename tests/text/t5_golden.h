// Goldens of the T5 encoder, and an encoder made of a source of weights.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/json.h"
#include "text/t5_encoder.h"

namespace mochi {

class T5Golden {
 public:
  explicit T5Golden(const std::string& name)
      : checkpoint_(
            Checkpoint::open(std::filesystem::path(MOCHI_GOLDEN_DIR) / (name + ".safetensors"))) {}

  std::vector<float> values(const std::string& name) const {
    std::vector<float> result(
        static_cast<std::size_t>(checkpoint_->info(name).shape.num_elements()));
    checkpoint_->read_f32(name, result);
    return result;
  }

  std::vector<std::int32_t> ids() const {
    const auto bytes = checkpoint_->stored_rows("input.ids").front().bytes;
    std::vector<std::int32_t> ids(bytes.size() / sizeof(std::int32_t));
    std::memcpy(ids.data(), bytes.data(), bytes.size());
    return ids;
  }

  // The network's parameters under the names of a checkpoint.
  std::shared_ptr<TensorSource> weights() const {
    const std::string prefix = "weights.";
    KeyMappedSource::KeyMap map;
    for (const std::string& name : checkpoint_->names()) {
      if (name.starts_with(prefix)) map[name.substr(prefix.size())] = {{.source_name = name}};
    }
    return std::make_shared<KeyMappedSource>(checkpoint_, std::move(map), prefix);
  }

  TextEncoderConfig config() const {
    const Json json = parse_json(checkpoint_->metadata().at("config"), "golden");
    JsonReader section(json.at("text_encoder"), "golden", "text_encoder");
    return parse_text_encoder_config(section);
  }

 private:
  std::shared_ptr<Checkpoint> checkpoint_;
};

// Features of `ids` by an encoder with these weights.
inline std::vector<float> run_t5(const std::shared_ptr<const TensorSource>& checkpoint,
                                 const TextEncoderConfig& config,
                                 const std::vector<std::int32_t>& ids,
                                 DType matrix_dtype = DType::kF32) {
  const std::unique_ptr<Backend> backend = make_backend(Device::kCpu);
  Arena scratch(backend->allocator());
  Context ctx{*backend, scratch};
  WeightStore store(*backend, matrix_dtype);
  T5Weights weights(config);
  const auto source = make_t5_source(checkpoint, config);
  store.load(weights, *source);
  const T5Encoder encoder(*backend, weights);
  const Tensor features(backend->activation_dtype(), {std::ssize(ids), config.hidden_size},
                        backend->allocator());
  encoder.encode(ctx, ids, features);
  const Tensor host(DType::kF32, features.view().shape());
  backend->copy(features, host);
  const auto values = host.view().f32();
  return {values.begin(), values.end()};
}

// ‖got − want‖ / ‖want‖.
inline double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
  EXPECT_EQ(got.size(), want.size());
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    const double delta = static_cast<double>(got[i]) - want[i];
    difference += delta * delta;
    norm += static_cast<double>(want[i]) * want[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace mochi
