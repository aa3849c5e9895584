// Standard normal noise from a seed: the program's own, equal on every machine, or PyTorch's.
#pragma once

#include <cstdint>
#include <span>

#include "mochi/enums.h"

namespace mochi {

// Fills `out` with the tensor of this seed and of out.size() elements. For kMochi a longer tensor
// begins with the shorter one; PyTorch's values depend on the size.
void fill_normal(NoiseSource source, std::uint64_t seed, std::span<float> out);

}  // namespace mochi
