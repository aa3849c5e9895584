// Which parameters are quantised for 8-bit products.
#pragma once

#include <optional>
#include <string_view>

#include "mochi/compute.h"
#include "tensor/dtype.h"

namespace mochi {

// The place of a linear layer's matrix in the transformer.
struct LayerPlace {
  int block;
  LayerGroup layers;
};
// Returns nothing for a name of anything else: everything outside the blocks, where an error
// reaches all others, and layers that compute shifts and scales.
std::optional<LayerPlace> find_layer(std::string_view name);

// Returns the type in which products take the matrix `name` of the transformer, I8 or F8_E4M3, or
// nothing for the engine's precision.
std::optional<DType> quantised_type(const ComputePlan& plan, std::string_view name);

}  // namespace mochi
