// A small transformer with golden weights, and its outputs for a golden case.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dit/dit.h"
#include "dit/lora.h"
#include "io/json.h"
#include "support/device_tensors.h"
#include "support/golden.h"

namespace mochi {

inline DitConfig golden_dit_config(const Golden& golden) {
  const Json config = golden.config();
  JsonReader section(config.at("dit"), "golden", "dit");
  return parse_dit_config(section);
}

// A transformer with weights of a golden file.
struct Bench {
  explicit Bench(const std::string& weights_name, DType matrix_dtype = DType::kF32,
                 const LoraDeltas& loras = {},
                 std::unique_ptr<Backend> on = make_backend(Device::cpu()))
      : backend(std::move(on)),
        store(*backend, matrix_dtype),
        dit(load(Golden(weights_name), loras)) {}
  Bench(const TensorSource& source, const DitConfig& config)
      : backend(make_backend(Device::cpu())),
        store(*backend, DType::kF32),
        dit(load(source, config)) {}

  Dit load(const Golden& golden, const LoraDeltas& loras) {
    return load(LoraMergedSource(golden.weights(), loras), golden_dit_config(golden));
  }
  Dit load(const TensorSource& source, const DitConfig& config) {
    DitWeights weights(config);
    store.load(weights, source);
    EXPECT_TRUE(source.unread().empty()) << source.unread().front();
    return Dit(std::move(weights));
  }

  std::vector<float> velocity(const Golden& test_case, const std::string& text_name) {
    const Tensor latents = to_device(*backend, test_case.tensor("input.latents"));
    const Tensor text = to_activation(*backend, test_case.tensor(text_name));
    const Shape& shape = latents.view().shape();
    const DitRun run = dit.prepare(*backend, dit.token_grid(shape[1], shape[2], shape[3]));
    const TextCondition condition = dit.condition(ctx, text);
    DensePolicy policy;
    const Tensor out(DType::kF32, shape, backend->allocator());
    const DitCall call{.sigma = test_case.values("input.sigma")[0]};
    dit.forward(ctx, run, call, condition, policy, latents, out);
    return to_host(*backend, out);
  }

  std::unique_ptr<Backend> backend;
  Arena arena{backend->allocator()};
  Context ctx{*backend, arena};
  WeightStore store;
  Dit dit;
};

}  // namespace mochi
