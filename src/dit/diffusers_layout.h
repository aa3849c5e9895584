// Transformer weights as the diffusers library stores them.
#pragma once

#include <memory>

#include "io/tensor_source.h"

namespace mochi {

bool has_diffusers_dit_keys(const TensorSource& source);

// The same weights under the original checkpoint's names and in its order of rows. A source that
// has those names already is returned as it is; one that has neither is an Error.
std::shared_ptr<TensorSource> with_original_dit_keys(std::shared_ptr<TensorSource> source);

}  // namespace mochi
