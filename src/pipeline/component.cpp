#include "pipeline/component.h"

#include <utility>
#include <vector>

#include "dit/diffusers_layout.h"
#include "io/scaled_source.h"
#include "text/llama_cpp_layout.h"
#include "text/t5_weights.h"
#include "vae/diffusers_layout.h"

namespace mochi {

const char* component_name(Component component) {
  switch (component) {
    case Component::kTextEncoder:
      return "text encoder";
    case Component::kDit:
      return "transformer";
    case Component::kDecoder:
      return "video decoder";
    case Component::kEncoder:
      return "video encoder";
  }
  return "?";
}

ModelPart part_of(Component component) {
  switch (component) {
    case Component::kTextEncoder:
      return ModelPart::kTextEncoder;
    case Component::kDit:
      return ModelPart::kTransformer;
    case Component::kDecoder:
      return ModelPart::kVideoDecoder;
    case Component::kEncoder:
      return ModelPart::kVideoEncoder;
  }
  return ModelPart::kTransformer;
}

const char* component_place(Component component) {
  switch (component) {
    case Component::kTextEncoder:
      return "text_encoder/model.safetensors (with its index, if it is sharded), or "
             "t5xxl_*.safetensors";
    case Component::kDit:
      return "dit.safetensors, or diffusers' folder transformer";
    case Component::kDecoder:
      return "decoder.safetensors, or diffusers' folder vae";
    case Component::kEncoder:
      return "encoder.safetensors, or diffusers' folder vae";
  }
  return "?";
}

bool is_diffusers_layout(const TensorSource& source, Component component) {
  switch (component) {
    case Component::kTextEncoder:
      return false;
    case Component::kDit:
      // Other transformers have the first tensor, too.
      return has_diffusers_dit_keys(source) && source.contains("pos_frequencies");
    case Component::kDecoder:
      return has_diffusers_decoder_keys(source);
    case Component::kEncoder:
      return has_diffusers_encoder_keys(source);
  }
  return false;
}

namespace {

// UMT5 has a relative bias in every layer.
bool is_t5(const TensorSource& source) {
  constexpr const char* kBias = "0.SelfAttention.relative_attention_bias.weight";
  return source.contains(t5_layer_prefix(0) + "0.SelfAttention.q.weight") &&
         !source.contains(t5_layer_prefix(1) + kBias);
}

bool holds_component(const TensorSource& source, Component component) {
  if (is_diffusers_layout(source, component)) return true;
  switch (component) {
    case Component::kTextEncoder:
      return is_t5(source);
    case Component::kDit:
      return source.contains("x_embedder.proj.weight") && source.contains("pos_frequencies");
    case Component::kDecoder:
      return source.contains("blocks.0.0.weight");
    case Component::kEncoder:
      return source.contains("layers.0.weight") && source.contains("output_norm.weight");
  }
  return false;
}

// Beginnings of the names of a network's tensors in files that also hold others.
std::vector<std::string> prefixes_of(Component component) {
  switch (component) {
    case Component::kTextEncoder:
      return {"text_encoders.t5xxl.transformer."};
    case Component::kDit:
      return {"model.diffusion_model."};
    case Component::kDecoder:
      return {"decoder.", "vae.decoder.", "vae."};
    case Component::kEncoder:
      return {"encoder.", "vae.encoder.", "vae."};
  }
  return {};
}

}  // namespace

std::shared_ptr<StoredSource> find_component(const std::shared_ptr<StoredSource>& file,
                                             Component component) {
  if (holds_component(*file, component)) return file;
  if (component == Component::kTextEncoder && has_llama_cpp_t5_keys(*file)) {
    return from_llama_cpp_t5(file);
  }
  for (const std::string& prefix : prefixes_of(component)) {
    const auto network = std::make_shared<PrefixedSource>(file, prefix);
    if (holds_component(*network, component)) return network;
  }
  return nullptr;
}

std::shared_ptr<TensorSource> with_original_keys(std::shared_ptr<StoredSource> stored,
                                                 Component component,
                                                 const TextEncoderConfig& text_config) {
  std::shared_ptr<TensorSource> source = with_scales(std::move(stored));
  switch (component) {
    case Component::kTextEncoder:
      return make_t5_source(std::move(source), text_config);
    case Component::kDit:
      return with_original_dit_keys(std::move(source));
    case Component::kDecoder:
      return with_original_decoder_keys(std::move(source));
    case Component::kEncoder:
      return with_original_encoder_keys(std::move(source));
  }
  return source;
}

ModelConfig infer_component_config(const std::shared_ptr<StoredSource>& stored,
                                   Component component) {
  ModelConfig config;
  if (component == Component::kTextEncoder) {
    config.text_encoder = infer_text_encoder_config(*with_scales(stored));
    return config;
  }
  const auto named = with_original_keys(stored, component, config.text_encoder);
  if (component == Component::kDit) config.dit = infer_dit_config(*named);
  if (component == Component::kDecoder) config.vae = infer_vae_config(named.get(), nullptr);
  if (component == Component::kEncoder) config.vae = infer_vae_config(nullptr, named.get());
  return config;
}

}  // namespace mochi
