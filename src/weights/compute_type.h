// Which parameters are quantised for 8-bit products.
#pragma once

#include <optional>
#include <string_view>

#include "mochi/compute.h"
#include "tensor/dtype.h"

namespace mochi {

// Returns the type in which products of this type take the matrix `name` of the transformer:
// I8 or F8_E4M3. Nothing for those that stay in the engine's precision: everything outside the
// blocks, where an error reaches all others, and what computes shifts and scales.
std::optional<DType> quantised_type(ComputeType type, std::string_view name);

}  // namespace mochi
