// Any text as a model's config.json. Where it is accepted, what follows from it is computed, too:
// the parameters of all networks and the default request.
#include "dit/dit_weights.h"
#include "fuzz_support.h"
#include "pipeline/model_config.h"
#include "pipeline/request.h"
#include "text/t5_weights.h"
#include "vae/vae_weights.h"

namespace mochi {
namespace {

void use_config(const ModelConfig& config) {
  expect_result_or_error([&] { list_parameters(T5Weights(config.text_encoder)); });
  expect_result_or_error([&] { list_parameters(DitWeights(config.dit)); });
  expect_result_or_error([&] { list_parameters(VaeDecoderWeights(config.vae)); });
  expect_result_or_error([&] { list_parameters(VaeEncoderWeights(config.vae)); });
  expect_result_or_error([&] { check_request(config, make_default_request(config.generation)); });
}

}  // namespace

int fuzz(std::span<const std::byte> bytes) {
  const std::string_view text = as_text(bytes);
  ModelConfig config;
  if (expect_result_or_error([&] { config = parse_model_config(text, "config.json"); })) {
    require(is_model_config(text, "config.json"));
    use_config(config);
  }
  return 0;
}

}  // namespace mochi
