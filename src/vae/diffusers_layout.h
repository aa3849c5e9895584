// Video VAE weights in the layout of the diffusers library: encoder and decoder in one file.
#pragma once

#include <memory>

#include "io/tensor_source.h"

namespace mochi {

bool has_diffusers_decoder_keys(const TensorSource& source);
bool has_diffusers_encoder_keys(const TensorSource& source);

// Return the weights under the original checkpoints' names. A source that already has those names
// is returned unchanged; a source with neither layout is an Error.
std::shared_ptr<TensorSource> with_original_decoder_keys(std::shared_ptr<TensorSource> source);
std::shared_ptr<TensorSource> with_original_encoder_keys(std::shared_ptr<TensorSource> source);

}  // namespace mochi
