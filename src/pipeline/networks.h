// The networks of a model, loaded: each owns its weights.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dit/dit.h"
#include "dit/lora.h"
#include "mochi/mochi.h"
#include "pipeline/model_directory.h"
#include "text/t5_encoder.h"
#include "text/tokenizer.h"
#include "vae/vae_decoder.h"
#include "vae/vae_encoder.h"

namespace mochi {

using Parameters = std::vector<std::pair<std::string, Shape>>;

// Name and shape of every parameter that a network of these sizes has.
Parameters parameters_of(const ModelConfig& config, Component component);

// Size in memory of the networks that generating uses.
std::uint64_t weight_bytes(const ModelDirectory& directory, const MatrixStorage& storage);

// Throws Error unless the folder's files hold all of them, in types that weights are read from.
void check_weights(const ModelDirectory& directory, Component component);

// Options of loading.
struct LoadOptions {
  Backend& backend;
  MatrixStorage storage;  // the transformer and the text encoder are kept so
  Observer& observer;
  bool streams_layers = false;  // the transformer's blocks stay on the host
};

class TextNetwork {
 public:
  TextNetwork(const ModelDirectory& directory, const LoadOptions& options);

  // Features [tokens, width] of at most max_tokens tokens; no rows for an empty text. `what` names
  // the text in errors.
  Tensor encode(Context& ctx, const std::string& text, std::int64_t max_tokens,
                const char* what) const;
  const WeightStore& store() const { return store_; }

 private:
  std::optional<Tokenizer> tokenizer_;  // random weights do without
  WeightStore store_;
  T5Encoder encoder_;
};

class DitNetwork {
 public:
  DitNetwork(const ModelDirectory& directory, const LoraDeltas& loras, const LoadOptions& options);
  const Dit& dit() const { return dit_; }
  const WeightStore& store() const { return store_; }

 private:
  WeightStore store_;
  Dit dit_;
};

class DecoderNetwork {
 public:
  DecoderNetwork(const ModelDirectory& directory, const LoadOptions& options);
  const VaeDecoder& decoder() const { return decoder_; }

 private:
  WeightStore store_;
  VaeDecoder decoder_;
};

class EncoderNetwork {
 public:
  EncoderNetwork(const ModelDirectory& directory, const LoadOptions& options);
  const VaeEncoder& encoder() const { return encoder_; }

 private:
  WeightStore store_;
  VaeEncoder encoder_;
};

}  // namespace mochi
