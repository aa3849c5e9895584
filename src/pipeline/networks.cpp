#include "pipeline/networks.h"

#include <utility>

#include "base/error.h"
#include "dit/dit_weights.h"
#include "pipeline/progress_reporter.h"
#include "text/t5_weights.h"
#include "vae/vae_weights.h"

namespace mochi {
namespace {

// Fills `weights`, with progress: from the folder's files, with the LoRAs' changes if there are
// any, or at random.
template <typename Weights>
Weights load_weights(const ModelDirectory& directory, Component component, Weights weights,
                     const LoadOptions& options, WeightStore& store,
                     const LoraDeltas* loras = nullptr) {
  const auto num_tensors = static_cast<std::int64_t>(list_parameters(weights).size());
  const bool is_random = directory.has_random_weights();
  ProgressReporter reporter(options.observer, Phase::kLoading, is_random ? 1 : num_tensors,
                            component_name(component));
  if (is_random) {
    // Seeds of components are far apart, because each tensor has its own seed.
    const auto seed = (static_cast<std::uint64_t>(component) + 1) << 32;
    store.init_random(weights, seed);
    options.backend.device().synchronize();
    reporter.advance();
    return weights;
  }
  std::shared_ptr<TensorSource> tensors = directory.open(component);
  if (loras != nullptr) {
    tensors = std::make_shared<LoraMergedSource>(std::move(tensors), *loras);
  }
  const ReportingSource source(std::move(tensors), reporter);
  store.load(weights, source);
  return weights;
}

Dit load_dit(const ModelDirectory& directory, const LoraDeltas& loras, const LoadOptions& options,
             WeightStore& store) {
  DitWeights weights(directory.config().dit);
  if (options.streams_layers) store.stream_layers(dit_layer_of);
  weights = load_weights(directory, Component::kDit, std::move(weights), options, store, &loras);
  return Dit(std::move(weights), store.streamer());
}

std::optional<Tokenizer> load_tokenizer(const ModelDirectory& directory) {
  if (directory.has_random_weights() && !directory.find_tokenizer()) return std::nullopt;
  const std::filesystem::path path = directory.tokenizer();
  Tokenizer tokenizer(path);
  const std::int64_t vocab_size = directory.config().text_encoder.vocab_size;
  if (tokenizer.vocab_size() > vocab_size) {
    fail("{}: has {} pieces, the text encoder has rows for {}", path.string(),
         tokenizer.vocab_size(), vocab_size);
  }
  return tokenizer;
}

// Used without a tokenizer. Each byte is a token; the ids follow padding, end and unknown.
std::vector<std::int32_t> encode_bytes(const std::string& text, std::int64_t max_tokens,
                                       std::int64_t vocab_size) {
  constexpr std::int32_t kEndId = 1;
  constexpr std::int32_t kFirstByteId = 3;
  std::vector<std::int32_t> ids;
  if (text.empty()) return ids;
  for (const char letter : text.substr(0, static_cast<std::size_t>(max_tokens - 1))) {
    const std::int32_t id = kFirstByteId + static_cast<unsigned char>(letter);
    ids.push_back(static_cast<std::int32_t>(id % vocab_size));
  }
  ids.push_back(kEndId);
  return ids;
}

// The VAE's matrices are small, and its convolutions take dense ones.
MatrixStorage dense(const MatrixStorage& storage) { return {storage.dtype, WeightFormat::kBf16}; }

template <typename Weights>
std::size_t planned_bytes(const ModelDirectory& directory, Component component, Weights weights,
                          const MatrixStorage& storage) {
  if (!directory.has(component)) return 0;
  std::shared_ptr<TensorSource> source;
  if (!directory.has_random_weights()) source = directory.open(component);
  return WeightStore::planned_bytes(std::move(weights), source.get(), storage);
}

}  // namespace

std::uint64_t weight_bytes(const ModelDirectory& directory, const MatrixStorage& storage) {
  const ModelConfig& config = directory.config();
  return planned_bytes(directory, Component::kTextEncoder, T5Weights(config.text_encoder),
                       storage) +
         planned_bytes(directory, Component::kDit, DitWeights(config.dit), storage) +
         planned_bytes(directory, Component::kDecoder, VaeDecoderWeights(config.vae),
                       dense(storage));
}

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
      store_(options.backend, options.storage),
      encoder_(options.backend,
               load_weights(directory, Component::kTextEncoder,
                            T5Weights(directory.config().text_encoder), options, store_)) {}

Tensor TextNetwork::encode(Context& ctx, const std::string& text, std::int64_t max_tokens,
                           const char* what) const {
  const std::vector<std::int32_t> ids =
      tokenizer_ ? tokenizer_->encode(text, max_tokens, what)
                 : encode_bytes(text, max_tokens, encoder_.config().vocab_size);
  Tensor features(ctx.backend.activation_dtype(), {std::ssize(ids), encoder_.config().hidden_size},
                  ctx.backend.allocator());
  if (!ids.empty()) encoder_.encode(ctx, ids, features);
  return features;
}

DitNetwork::DitNetwork(const ModelDirectory& directory, const LoraDeltas& loras,
                       const LoadOptions& options)
    : store_(options.backend, options.storage), dit_(load_dit(directory, loras, options, store_)) {}

DecoderNetwork::DecoderNetwork(const ModelDirectory& directory, const LoadOptions& options)
    : store_(options.backend, dense(options.storage)),
      decoder_(options.backend,
               load_weights(directory, Component::kDecoder,
                            VaeDecoderWeights(directory.config().vae), options, store_)) {}

EncoderNetwork::EncoderNetwork(const ModelDirectory& directory, const LoadOptions& options)
    : store_(options.backend, dense(options.storage)),
      encoder_(options.backend,
               load_weights(directory, Component::kEncoder,
                            VaeEncoderWeights(directory.config().vae), options, store_)) {}

}  // namespace mochi
