#include "pipeline/networks.h"

#include <utility>

#include "base/error.h"
#include "dit/dit_weights.h"
#include "pipeline/progress_reporter.h"
#include "text/t5_weights.h"
#include "vae/vae_weights.h"

namespace mochi {
namespace {

// Fills `weights` from a network's tensors, with progress.
template <typename Weights>
Weights load_weights(std::shared_ptr<const TensorSource> tensors, Component component,
                     Weights weights, const LoadOptions& options, WeightStore& store) {
  const auto num_tensors = static_cast<std::int64_t>(list_parameters(weights).size());
  ProgressReporter reporter(options.on_progress, Phase::kLoading, num_tensors,
                            component_name(component));
  const ReportingSource source(std::move(tensors), reporter);
  store.load(weights, source);
  return weights;
}

Tokenizer load_tokenizer(const ModelDirectory& directory) {
  const std::filesystem::path path = directory.tokenizer();
  Tokenizer tokenizer(path);
  const std::int64_t vocab_size = directory.config().text_encoder.vocab_size;
  if (tokenizer.vocab_size() > vocab_size) {
    fail("{}: has {} pieces, the text encoder has rows for {}", path.string(),
         tokenizer.vocab_size(), vocab_size);
  }
  return tokenizer;
}

}  // namespace

Parameters parameters_of(const ModelConfig& config, Component component) {
  switch (component) {
    case Component::kTextEncoder:
      return list_parameters(T5Weights(config.text_encoder));
    case Component::kDit:
      return list_parameters(DitWeights(config.dit));
    case Component::kDecoder:
      return list_parameters(VaeDecoderWeights(config.vae));
    case Component::kEncoder:
      return list_parameters(VaeEncoderWeights(config.vae));
  }
  return {};
}

void check_weights(const ModelDirectory& directory, Component component) {
  const std::shared_ptr<TensorSource> source = directory.open(component);
  for (const auto& [name, shape] : parameters_of(directory.config(), component)) {
    require_weight(*source, name, shape);
  }
}

TextNetwork::TextNetwork(const ModelDirectory& directory, const LoadOptions& options)
    : tokenizer_(load_tokenizer(directory)),
      store_(options.backend, options.matrix_dtype),
      encoder_(options.backend,
               load_weights(directory.open(Component::kTextEncoder), Component::kTextEncoder,
                            T5Weights(directory.config().text_encoder), options, store_)) {}

Tensor TextNetwork::encode(Context& ctx, const std::string& text, std::int64_t max_tokens,
                           const char* what) const {
  const std::vector<std::int32_t> ids = tokenizer_.encode(text, max_tokens, what);
  Tensor features(ctx.backend.activation_dtype(), {std::ssize(ids), encoder_.config().hidden_size},
                  ctx.backend.allocator());
  if (!ids.empty()) encoder_.encode(ctx, ids, features);
  return features;
}

DitNetwork::DitNetwork(const ModelDirectory& directory, const LoraDeltas& loras,
                       const LoadOptions& options)
    : store_(options.backend, options.matrix_dtype),
      dit_(load_weights(std::make_shared<LoraMergedSource>(directory.open(Component::kDit), loras),
                        Component::kDit, DitWeights(directory.config().dit), options, store_)) {}

DecoderNetwork::DecoderNetwork(const ModelDirectory& directory, const LoadOptions& options)
    : store_(options.backend, options.matrix_dtype),
      decoder_(options.backend,
               load_weights(directory.open(Component::kDecoder), Component::kDecoder,
                            VaeDecoderWeights(directory.config().vae), options, store_)) {}

EncoderNetwork::EncoderNetwork(const ModelDirectory& directory, const LoadOptions& options)
    : store_(options.backend, options.matrix_dtype),
      encoder_(options.backend,
               load_weights(directory.open(Component::kEncoder), Component::kEncoder,
                            VaeEncoderWeights(directory.config().vae), options, store_)) {}

}  // namespace mochi
