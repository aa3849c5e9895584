// 3×3×3 convolutions with fewer multiplications: Winograd's F(2×2, 3×3) over rows and columns, and
// a direct sum over the taps in time. They need 4/9 of the multiplications, at about twice the
// rounding error.
#pragma once

#include "backend/backend.h"

namespace mochi::cpu {

// Returns true if conv3d_winograd supports this convolution and is faster.
bool suits_winograd(const ops::Conv3d& op);

// Computes the convolution; the residual may be the output.
void conv3d_winograd(const ops::Conv3d& op);

}  // namespace mochi::cpu
