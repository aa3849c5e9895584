// Goldens of the T5 encoder, and an encoder for given weights.
#pragma once

#include <memory>
#include <vector>

#include "support/device_tensors.h"
#include "support/golden.h"
#include "text/t5_encoder.h"

namespace mochi {

class T5Golden : public Golden {
 public:
  using Golden::Golden;

  std::vector<std::int32_t> ids() const { return ints("input.ids"); }

  TextEncoderConfig config() const {
    const Json json = Golden::config();
    JsonReader section(json.at("text_encoder"), "golden", "text_encoder");
    return parse_text_encoder_config(section);
  }
};

// Returns the features of `ids` from an encoder with these weights.
inline std::vector<float> run_t5(
    const std::shared_ptr<const TensorSource>& checkpoint, const TextEncoderConfig& config,
    const std::vector<std::int32_t>& ids, DType matrix_dtype = DType::kF32,
    const std::unique_ptr<Backend>& backend = make_backend(Device::cpu())) {
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
  return to_host(*backend, features);
}

}  // namespace mochi
