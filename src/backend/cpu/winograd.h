// 3×3×3 convolutions with fewer multiplications: Winograd's F(2×2, 3×3) over rows and columns, the
// taps in time added up directly. 4/9 of the products, at about twice the rounding error.
#pragma once

#include "backend/backend.h"

namespace mochi::cpu {

// Whether conv3d_winograd computes this convolution, and is the faster way to.
bool suits_winograd(const TensorView& x, const Conv3d& params);

// Backend::conv3d; the residual may be the output.
void conv3d_winograd(const TensorView& x, const Conv3d& params, const TensorView& out);

}  // namespace mochi::cpu
