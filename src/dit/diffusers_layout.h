// Transformer weights in the layout of the diffusers library.
#pragma once

#include <memory>

#include "io/tensor_source.h"

namespace mochi {

bool has_diffusers_dit_keys(const TensorSource& source);

// Returns the weights under the original checkpoint's names and in its order of rows. A source that
// already has those names is returned unchanged; a source with neither layout is an Error.
std::shared_ptr<TensorSource> with_original_dit_keys(std::shared_ptr<TensorSource> source);

}  // namespace mochi
