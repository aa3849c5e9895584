// Encoding one prompt of the greatest length.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "bench/flops.h"
#include "bench/network.h"
#include "bench/op_bench.h"
#include "text/t5_encoder.h"

namespace mochi::bench {
namespace {

std::vector<std::int32_t> make_ids(std::int64_t num_tokens, std::int64_t vocab_size) {
  std::vector<std::int32_t> ids;
  ids.reserve(static_cast<std::size_t>(num_tokens));
  for (std::int64_t i = 0; i < num_tokens; ++i) {
    ids.push_back(static_cast<std::int32_t>((i + 1) * 7919 % vocab_size));
  }
  return ids;
}

// features [ids, hidden_size].
void encode(Backend& backend, const T5Encoder& encoder, std::span<const std::int32_t> ids,
            const TensorView& features) {
  Arena scratch(backend.allocator());
  Context ctx{backend, scratch};
  encoder.encode(ctx, ids, features);
}

// Compares two layers on few tokens. Returns the relative error.
double verify_t5(Session& session) {
  TextEncoderConfig config = session.sizes.config.text_encoder;
  config.num_layers = std::min<std::int64_t>(config.num_layers, 2);
  Backend& device = *session.backend;
  Backend& oracle = *session.oracle;
  const RandomNetwork network(device, session.storage(), T5Weights(config));
  std::deque<Tensor> tensors;
  const T5Encoder encoder(device, network.weights);
  const T5Encoder oracle_encoder(
      oracle, copy_for_oracle(device, oracle, T5Weights(network.weights), tensors));
  const std::vector<std::int32_t> ids = make_ids(37, config.vocab_size);
  const Shape shape{std::ssize(ids), config.hidden_size};
  RandomInputs outputs(device, session.next_seed++);
  const TensorView found = outputs.output(shape);
  encode(device, encoder, ids, found);
  const Tensor wanted(DType::kF32, shape, oracle.allocator());
  encode(oracle, oracle_encoder, ids, wanted);
  return relative_error(download_last_rows(device, found, shape, kNoRows), wanted);
}

}  // namespace

void bench_t5(Session& session) {
  TextEncoderConfig config = session.sizes.config.text_encoder;
  if (session.request.num_layers > 0) config.num_layers = session.request.num_layers;
  measure_ceilings(session);
  const double error = verify_t5(session);
  const RandomNetwork network(*session.backend, session.storage(), T5Weights(config));
  const T5Encoder encoder(*session.backend, network.weights);
  const std::int64_t num_tokens = session.sizes.num_encoder_tokens;
  const std::vector<std::int32_t> ids = make_ids(num_tokens, config.vocab_size);
  RandomInputs outputs(*session.backend, session.next_seed++);
  const TensorView features = outputs.output({num_tokens, config.hidden_size});
  Arena scratch(session.backend->allocator());
  Measurement result;
  result.name = "t5 encode";
  result.num_tokens = num_tokens;
  result.size = fmt::format("{} tokens, {} layers", num_tokens, config.num_layers);
  result.relative_error = error;
  result.max_error = max_network_error(session.backend->activation_dtype());
  result.flops = t5_flops(config, num_tokens);
  // Each weight except the embedding is read once, for any number of tokens.
  result.bytes =
      static_cast<double>(network.store.size_bytes() - network.weights.embedding.size_bytes());
  result.weight_bytes = network.store.size_bytes();
  measure_network(
      session,
      [&](Backend& backend) {
        Context ctx{backend, scratch, &session.request.should_stop};
        encoder.encode(ctx, ids, features);
      },
      result);
  session.add(std::move(result));
}

}  // namespace mochi::bench
