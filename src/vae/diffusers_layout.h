// Video VAE weights as the diffusers library stores them: both halves in one file.
#pragma once

#include <memory>

#include "io/tensor_source.h"

namespace mochi {

bool has_diffusers_decoder_keys(const TensorSource& source);
bool has_diffusers_encoder_keys(const TensorSource& source);

// The same weights under the original checkpoints' names. A source that has those names already is
// returned as it is; one that has neither is an Error.
std::shared_ptr<TensorSource> with_original_decoder_keys(std::shared_ptr<TensorSource> source);
std::shared_ptr<TensorSource> with_original_encoder_keys(std::shared_ptr<TensorSource> source);

}  // namespace mochi
