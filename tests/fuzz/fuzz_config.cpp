// Any text as a model's config.json: read and checked; where it is accepted, what follows from it
// is computed too: the parameters of all networks and the default request.
#include "dit/dit_weights.h"
#include "fuzz_support.h"
#include "pipeline/model_config.h"
#include "pipeline/request.h"
#include "text/t5_weights.h"
#include "vae/vae_weights.h"

namespace mochi {
namespace {

void fuzz(std::span<const std::uint8_t> bytes) {
  const MemoryFile file(bytes);
  expect_result_or_error([&] {
    is_model_config(file.path());
    const ModelConfig config = read_model_config(file.path());
    config.validate();
    expect_result_or_error([&] { list_parameters(T5Weights(config.text_encoder)); });
    expect_result_or_error([&] { list_parameters(DitWeights(config.dit)); });
    expect_result_or_error([&] { list_parameters(VaeDecoderWeights(config.vae)); });
    expect_result_or_error([&] { list_parameters(VaeEncoderWeights(config.vae)); });
    expect_result_or_error([&] { check_request(config, make_default_request(config.generation)); });
  });
}

}  // namespace
}  // namespace mochi

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  mochi::fuzz({data, size});
  return 0;
}
