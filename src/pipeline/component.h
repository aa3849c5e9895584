// The networks of a model, each of which is recognised by its tensors.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "io/stored_source.h"
#include "mochi/error.h"
#include "pipeline/model_config.h"

namespace mochi {

enum class Component : std::uint8_t { kTextEncoder, kDit, kDecoder, kEncoder };

inline constexpr std::array kAllComponents{Component::kTextEncoder, Component::kDit,
                                           Component::kDecoder, Component::kEncoder};

// "transformer", as messages call it.
const char* component_name(Component component);

ModelPart part_of(Component component);

// Where the file of a network belongs in a model folder: "dit.safetensors, or the folder
// transformer of diffusers".
const char* component_place(Component component);

// Returns the tensors of such a network, under the original names or diffusers'; null if the file
// has none. The file may hold several networks, each below a prefix of ComfyUI's
// ("model.diffusion_model."), which is left out.
std::shared_ptr<StoredSource> find_component(const std::shared_ptr<StoredSource>& file,
                                             Component component);

// Returns true if such a network is stored under diffusers' names.
bool is_diffusers_layout(const TensorSource& source, Component component);

// A network's tensors under the names the engine's weights structs use, with their scales applied.
std::shared_ptr<TensorSource> with_original_keys(std::shared_ptr<StoredSource> stored,
                                                 Component component,
                                                 const TextEncoderConfig& text_config);

// The sizes that a network's tensors show, in the section that is its own.
ModelConfig infer_component_config(const std::shared_ptr<StoredSource>& stored,
                                   Component component);

}  // namespace mochi
